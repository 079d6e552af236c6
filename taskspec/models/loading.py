"""Loading a causal language model, and refusing what cannot be decoded speculatively."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import jinja2
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from taskspec.errors import ModelError
from taskspec.models.catalog import CATALOG, suggest
from taskspec.models.fetching import ensure_fetched
from taskspec.models.fingerprint import model_digest, model_fingerprint, with_commit
from taskspec.models.heads import checked_head
from taskspec.models.quiet import quiet_transformers

_LAYER_KINDS = {"full_attention", "sliding_attention"}
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class ChatMessage(Protocol):
    """One turn of a conversation."""

    @property
    def role(self) -> str:
        """`system`, `user` or `assistant`."""
        ...

    @property
    def content(self) -> str:
        """What was said."""
        ...


@dataclass(frozen=True)
class LanguageModel:
    """A target: see `taskspec.interfaces.Target`.

    Attributes:
        model: The transformers causal LM, in evaluation mode, nothing trainable.
        tokenizer: Its tokenizer.
        source: The name, hub id or folder it was asked for by.
        fingerprint: Identity of its weights and configuration, by their source.
        eos_token_ids: Tokens that end an answer.
        head: Final hidden states [..., H] to logits [..., V], caps and scales included.
    """

    model: nn.Module
    tokenizer: Any
    source: str
    fingerprint: str
    eos_token_ids: frozenset[int]
    head: Callable[[Tensor], Tensor]

    @property
    def vocabulary_size(self) -> int:
        """V: rows of the output head."""
        untyped: Any = self.model
        size: int = untyped.get_output_embeddings().weight.shape[0]
        return size

    @property
    def hidden_size(self) -> int:
        """H: width of the final hidden state."""
        size: int = _text_config(self.model).hidden_size
        return size

    @property
    def context_length(self) -> int:
        """Longest sequence, in tokens, whose positions do not depend on what else is in a pass."""
        config = _text_config(self.model)
        length: int = min([config.max_position_embeddings, *_rope_limits(config)])
        return length

    @cached_property
    def device(self) -> torch.device:
        """Where the model is; asked for at every step, and found by going through all weights."""
        untyped: Any = self.model
        device: torch.device = untyped.device
        return device

    @property
    def dtype(self) -> torch.dtype:
        """The weights' dtype."""
        untyped: Any = self.model
        dtype: torch.dtype = untyped.dtype
        return dtype

    def digest(self) -> str:
        """Identity of weights, configuration and tokenizer as loaded, wherever they lie."""
        return model_digest(self.model, self.tokenizer, self.eos_token_ids)

    def in_float32(self) -> LanguageModel:
        """The same weights, with which one computes in float32; itself where they are such."""
        if self.dtype == torch.float32:
            return self
        model = copy.deepcopy(self.model).float()
        return replace(self, model=model, head=checked_head(self.source, model))

    def chat_ids(self, messages: Sequence[ChatMessage], system: str | None) -> tuple[int, ...]:
        """Prompt ids of a conversation, up to where the answer begins.

        Uses the tokenizer's chat template; without one, the messages' texts joined by newlines.

        Args:
            messages: The turns.
            system: System message for conversations that have none.

        Raises:
            ModelError: When the chat template refuses the conversation.
        """
        turns = [{"role": turn.role, "content": turn.content} for turn in messages]
        if system is not None and all(turn["role"] != "system" for turn in turns):
            turns.insert(0, {"role": "system", "content": system})
        if self.tokenizer.chat_template is None:
            text = "\n".join(turn["content"] for turn in turns) + "\n"
            return tuple(self.tokenizer(text)["input_ids"])
        try:
            text = self.tokenizer.apply_chat_template(
                turns, tokenize=False, add_generation_prompt=True
            )
        except jinja2.TemplateError as error:
            roles = ", ".join(turn["role"] for turn in turns)
            raise ModelError(
                f"the chat template of {self.source} refuses turns of {roles}: {error}; many "
                "templates take no system message: leave target.system null and the prompts "
                "without one"
            ) from None
        return tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def free_text_prefix(self) -> tuple[int, ...]:
        """Ids after which the model writes on nobody's prompt.

        With a chat template: the opening of a user's turn, so that the model writes the user's
        message and goes on with its answer. Without: the begin token.
        """
        mark = "taskspec-mark"
        if self.tokenizer.chat_template is not None:
            text: str = self.tokenizer.apply_chat_template(
                [{"role": "user", "content": mark}], tokenize=False
            )
            ids = self.tokenizer(text.partition(mark)[0], add_special_tokens=False)["input_ids"]
            if ids:
                return tuple(ids)
        begin = self.tokenizer.bos_token_id
        return (begin if begin is not None else min(self.eos_token_ids),)


def load_language_model(source: str, dtype: str = "float32", device: str = "auto") -> LanguageModel:
    """Load a causal LM for decoding.

    Args:
        source: A catalog name, a local folder, or a Hugging Face hub id.
        dtype: `float32` or `bfloat16`.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.

    Raises:
        ModelError: When it cannot be found or fetched, is no causal LM, or has a cache that
            cannot be rolled back.
    """
    if dtype not in _DTYPES:
        raise ModelError(f"dtype must be one of {', '.join(_DTYPES)}, not '{dtype}'")
    where = find_device(device)
    with quiet_transformers():
        return _load(source, _DTYPES[dtype], where)


def _load(source: str, dtype: torch.dtype, device: torch.device) -> LanguageModel:
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    place = model_place(source)
    try:
        config = AutoConfig.from_pretrained(place)
    except (OSError, ValueError) as error:
        raise ModelError(_not_found(source, error)) from None
    _refuse_unsuitable(source, config)
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            place, dtype=dtype, attn_implementation="sdpa", output_loading_info=True
        )
        tokenizer = AutoTokenizer.from_pretrained(place)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"{source} cannot be loaded as a causal language model: {error}") from None
    model, found = loaded
    if found["missing_keys"]:
        # transformers would draw them at random, without a word.
        missing = sorted(found["missing_keys"])
        raise ModelError(
            f"the files of {source} lack {len(missing)} of its weights, among them {missing[0]}; "
            "give a whole causal language model"
        )
    if getattr(model, "_is_stateful", False):
        raise ModelError(_cannot_roll_back(source, f"{type(model).__name__} keeps a state"))
    model = model.to(device).eval().requires_grad_(False)
    return LanguageModel(
        model=model,
        tokenizer=tokenizer,
        source=source,
        fingerprint=with_commit(model_fingerprint(source), source),
        eos_token_ids=_eos_token_ids(model, tokenizer),
        head=checked_head(source, model),
    )


def load_tokenizer(source: str) -> Any:
    """Load the tokenizer of a model, without its weights.

    Raises:
        ModelError: When it cannot be found or fetched.
    """
    from transformers import AutoTokenizer

    with quiet_transformers():
        try:
            return AutoTokenizer.from_pretrained(model_place(source))
        except (OSError, ValueError) as error:
            raise ModelError(_not_found(source, error)) from None


def model_place(source: str) -> Path | str:
    """Where transformers finds a model: a catalog model's folder, fetched when it is not there."""
    return ensure_fetched(source) if source in CATALOG else source


def find_device(name: str) -> torch.device:
    """A device of this machine.

    Args:
        name: `auto`, `cpu`, `cuda` or `cuda:N`.

    Raises:
        ModelError: When there is none of that name here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ModelError(f"device must be auto, cpu, cuda or cuda:N, not '{name}'") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ModelError(
            f"device '{name}' is not here: {torch.cuda.device_count()} CUDA devices were found; "
            "choose auto or cpu"
        )
    return device


def device_here(name: str) -> str:
    """A device by the name that another machine had, or `auto` where there is none of it here."""
    try:
        find_device(name)
    except ModelError:
        return "auto"
    return name


def _text_config(model: Any) -> Any:
    return model.config.get_text_config()


def _rope_limits(config: Any) -> list[int]:
    """Where `longrope` begins to turn all positions of a pass by its longest text.

    Beyond it a token's state would depend on the batch, and on where a draft ends.
    """
    rope = getattr(config, "rope_parameters", None) or {}
    kinds = [rope, *(each for each in rope.values() if isinstance(each, dict))]
    return [
        each["original_max_position_embeddings"]
        for each in kinds
        if each.get("rope_type") == "longrope"
    ]


def _not_found(source: str, error: Exception) -> str:
    reason = str(error).strip().splitlines()[0]
    return (
        f"no model '{source}': not in the catalog{suggest(source)}, not a folder with a "
        f"transformers model, and the hub did not give it ({reason}); "
        "`taskspec models` lists the catalog"
    )


def _cannot_roll_back(source: str, reason: str) -> str:
    return (
        f"the cache of {source} cannot be rolled back after a refused draft ({reason}); choose a "
        f"model whose layers are all {' or '.join(sorted(_LAYER_KINDS))}"
    )


def _refuse_unsuitable(source: str, config: Any) -> None:
    if getattr(config, "is_encoder_decoder", False):
        raise ModelError(f"{source} is an encoder-decoder model; choose a causal language model")
    text = config.get_text_config()
    others = set(getattr(text, "layer_types", None) or ()) - _LAYER_KINDS
    if others:
        raise ModelError(_cannot_roll_back(source, f"it has {', '.join(sorted(others))} layers"))


def _eos_token_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    ids: set[int] = set()
    for value in (model.generation_config.eos_token_id, tokenizer.eos_token_id):
        ids.update(value if isinstance(value, list) else [value] if value is not None else [])
    return frozenset(ids | _end_of_turn(tokenizer))


def _end_of_turn(tokenizer: Any) -> set[int]:
    """The special token that closes an answer in the chat template, if one does."""
    if tokenizer.chat_template is None:
        return set()
    mark = "taskspec-mark"
    turns = [{"role": "user", "content": "user"}, {"role": "assistant", "content": mark}]
    try:
        text: str = tokenizer.apply_chat_template(turns, tokenize=False)
    except jinja2.TemplateError:
        return set()
    after = tokenizer(text.rpartition(mark)[2], add_special_tokens=False)["input_ids"]
    return set(after[:1]) & set(tokenizer.all_special_ids)
