"""Draft with a small causal language model: cut from the target, or loaded."""

from __future__ import annotations

import copy
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from taskspec.decoding.at_once import DraftsAtOnce
from taskspec.decoding.cached_model import CachedModel
from taskspec.decoding.sampling import probabilities_per_row, sample
from taskspec.decoding.writing import write_texts
from taskspec.errors import ModelError
from taskspec.interfaces import (
    DraftCorpus,
    Proposal,
    Sampling,
    Target,
    TeacherSignal,
    TrainingBatch,
    option,
)
from taskspec.models.cutting import (
    choose_layers,
    choose_vocabulary,
    cut_language_model,
    load_cut_model,
    save_cut_model,
)
from taskspec.models.loading import load_language_model, load_tokenizer
from taskspec.models.quiet import quiet_transformers
from taskspec.models.tokenizers import check_same_tokenizer
from taskspec.training.attention import final_states
from taskspec_drafters.confidence import Confidence, check_stop_below
from taskspec_drafters.draft_text import DraftText
from taskspec_drafters.modes import evaluating
from taskspec_drafters.task_vocabulary import (
    NarrowedByTask,
    columns_in,
    load_vocabulary,
    narrow_head,
    spread,
)

_LEAST_WINDOW = 32


@dataclass(frozen=True)
class CausalLMOptions:
    """Options of `causal-lm`."""

    model: str | None = option(
        None, "Model to load: catalog name, hub id or folder. Null cuts the draft from the target."
    )
    layers: int = option(4, "Layers kept when cutting from the target; first and last ones stay.")
    mlp_width: int = option(
        0, "Neurons kept in each layer's MLP when cutting, those of the largest weights; 0: all."
    )
    vocabulary: int = option(
        0, "Output tokens kept: the most frequent of the corpus; 0 keeps the whole vocabulary."
    )
    task_vocabulary: int = option(
        0, "Of these, output tokens kept for each task: the most frequent of its texts; 0: all."
    )
    window: int = option(
        0, "Newest tokens of a text that the draft reads; 0: as many as the model was made for."
    )
    int8: bool = option(
        False, "Draft from weights of a byte each, where the compiled kernels run: less to read."
    )
    stop_below: float = option(
        0.0, "End a draft before it is less likely than this to stand as a whole, as it sees it."
    )

    def __post_init__(self) -> None:
        if self.layers < 1:
            raise ValueError("layers must be at least 1")
        if self.mlp_width < 0:
            raise ValueError("mlp_width must be 0 (all) or positive")
        for name in ("vocabulary", "task_vocabulary"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be 0 (all) or positive")
        if self.window and self.window < _LEAST_WINDOW:
            raise ValueError(f"window must be 0 (the model's own) or at least {_LEAST_WINDOW}")
        check_stop_below(self.stop_below)


@dataclass(frozen=True)
class _Adapted:
    """A copy of the draft with an adapter merged into it, and the ids of its head's rows."""

    module: nn.Module
    vocabulary: Tensor | None


class CausalLM(NarrowedByTask):
    """A small language model with a KV cache of its own; adapters are merged copies of its layers.

    Autoregressive drafting as in Leviathan et al. 2023 (arXiv 2211.17192, algorithm 1). An output
    head trimmed to frequent tokens follows FR-Spec (arXiv 2502.14856).
    """

    name = "causal-lm"
    Options = CausalLMOptions

    def __init__(
        self,
        options: CausalLMOptions | None = None,
        model: nn.Module | None = None,
        vocabulary: Tensor | None = None,
    ) -> None:
        super().__init__(options, vocabulary)
        self._module = model
        self._adapted: dict[str, _Adapted] = {}
        self._running: dict[str | None, CachedModel] = {}
        self._drafting: dict[str | None, DraftsAtOnce] = {}
        self._rows: dict[int, DraftText] = {}

    @classmethod
    def check(cls, target: Target, options: CausalLMOptions) -> None:
        """A loaded draft speaks the target's tokens; a cut one has no more layers than it.

        Raises:
            ModelError: When the model has another tokenizer, or less to cut from than asked for.
        """
        if options.model is not None:
            check_same_tokenizer(target.tokenizer, load_tokenizer(options.model))
            return
        total = _layer_count(target.model)
        if options.layers > total:
            raise ModelError(
                f"causal-lm: layers={options.layers}, but the target has {total}; "
                f"choose at most {total}"
            )
        width = getattr(_text_config(target.model), "intermediate_size", 0)
        if options.mlp_width > width:
            raise ModelError(
                f"causal-lm: mlp_width={options.mlp_width}, but the target's MLP has {width} "
                f"neurons; choose at most {width}"
            )

    @classmethod
    def build(cls, target: Target, corpus: DraftCorpus, options: CausalLMOptions) -> Self:
        """Cut the draft from the target, or load it.

        Raises:
            ModelError: As `check`.
        """
        cls.check(target, options)
        source: Any = target.model
        layers: Sequence[int] | int
        if options.model is not None:
            loaded = load_language_model(
                options.model, str(target.dtype).removeprefix("torch."), str(target.device)
            )
            source = loaded.model
            layers = _layer_count(source)
        else:
            layers = choose_layers(_layer_count(source), options.layers)
        vocabulary = None
        if 0 < options.vocabulary < target.vocabulary_size:
            vocabulary = choose_vocabulary(
                [*corpus.answers, *corpus.prompts],
                options.vocabulary,
                target.vocabulary_size,
                always=target.eos_token_ids,
            )
        width = 0 if options.model is not None else options.mlp_width
        made = cls(options, cut_language_model(source, layers, vocabulary, width), vocabulary)
        made._end_tokens = target.eos_token_ids
        return made

    @classmethod
    def load(cls, folder: Path, target: Target, options: CausalLMOptions) -> Self:
        """Load the saved model in the target's dtype, onto its device."""
        model, vocabulary = load_cut_model(folder, target.dtype, target.device)
        made = cls(options, model, vocabulary)
        made._end_tokens = target.eos_token_ids
        return made

    def save(self, folder: Path) -> None:
        """Write model, configuration and vocabulary as safetensors and JSON."""
        save_cut_model(self.module, self._vocabulary, folder)

    @property
    def module(self) -> nn.Module:
        """The draft model."""
        assert self._module is not None, "build or load the drafter first"
        return self._module

    @module.setter
    def module(self, module: nn.Module) -> None:
        self._module = module
        self._running.clear()
        self._drafting.clear()

    @property
    def needs_recovery(self) -> bool:
        """True when cut from the target: the layers have never seen each other."""
        options: CausalLMOptions = self.options
        return options.model is None

    def add_adapter(self, name: str, folder: Path) -> None:
        """Load a PEFT adapter, merged into a copy that shares the embeddings."""
        from peft import PeftModel

        untyped: Any = self.module
        embeddings = untyped.get_input_embeddings()
        base = copy.deepcopy(self.module, memo={id(embeddings): embeddings})
        own = load_vocabulary(folder)
        if own is not None:
            narrow_head(base, self._vocabulary, own)
        with quiet_transformers():
            merged = PeftModel.from_pretrained(base, folder).merge_and_unload().eval()
        self._adapted[name] = _Adapted(merged, self._vocabulary if own is None else own)
        self._running.pop(name, None)
        self._drafting.pop(name, None)

    def training_states(self, batch: TrainingBatch, teacher: TeacherSignal) -> Tensor:
        """Final states [M, D] at the trained positions; the teacher's are not used."""
        return final_states(self._unwrapped(), batch)[batch.trained]

    @property
    def training_head(self) -> nn.Module:
        """The output head."""
        head: nn.Module = self._unwrapped().get_output_embeddings()
        return head

    def sample(
        self,
        prompts: Sequence[Sequence[int]],
        counts: Sequence[int],
        sampling: Sampling,
        generator: torch.Generator,
        end_tokens: Collection[int] = (),
    ) -> list[list[int]]:
        """Continue prompts with the weights as they are, an adapter being trained included."""
        model = self._unwrapped()
        # Autocast would keep weights rounded here for the training passes around this.
        with evaluating(model), torch.autocast(model.device.type, enabled=False):
            running = CachedModel(model, model.get_output_embeddings(), len(prompts))
            return write_texts(
                running, self._vocabulary, prompts, counts, sampling, generator, end_tokens
            )

    def _unwrapped(self) -> Any:
        """The transformers model, within which peft puts its adapters."""
        module: Any = self.module
        return module.get_base_model() if hasattr(module, "get_base_model") else module

    def start(
        self,
        row: int,
        prompt: Sequence[int],
        sampling: Sampling,
        hidden: Tensor | None = None,
        adapter: str | None = None,
    ) -> None:
        """Run the prompt, as much of it as the window holds, all but its last token."""
        text = self._rows[row] = DraftText(list(prompt), sampling, adapter, len(prompt))
        text.slide(1, self._window)
        self._read(row)

    def _read(self, row: int) -> None:
        """Read a row's text anew, all but its last token."""
        text = self._rows[row]
        model = self._model(text.adapter)
        model.rollback(row, 0)
        if text.tokens[:-1]:
            model.forward([row], torch.tensor([text.tokens[:-1]], device=model.device))

    @property
    def _window(self) -> int:
        """Tokens that the draft reads at most."""
        options: CausalLMOptions = self.options
        made_for: int = _text_config(self._unwrapped()).max_position_embeddings
        return min(options.window or made_for, made_for)

    @torch.inference_mode()
    def propose(self, rows: Sequence[int], k: Sequence[int], noise: Tensor) -> Proposal:
        """Draft up to k[b] tokens for each row, one forward pass per token."""
        greedy = all(self._rows[row].sampling.greedy for row in rows)
        for row, count in zip(rows, k, strict=True):
            # Where k more tokens do not fit, a row goes on from the newest half of its window.
            if self._rows[row].slide(count, self._window):
                self._read(row)
        lengths, tokens = list(k), torch.zeros(len(rows), max(k), dtype=torch.int64)
        probs: Tensor | None = None
        confidence = Confidence(len(rows), self.options.stop_below)
        for adapter in dict.fromkeys(self._rows[row].adapter for row in rows):
            model, vocabulary = self._model(adapter), self._vocabulary_of(adapter)
            mine = [index for index, row in enumerate(rows) if self._rows[row].adapter == adapter]
            if greedy and adapter in self._drafting:
                self._draft_at_once(adapter, rows, mine, lengths, tokens)
                continue
            for place in range(max(k)):
                active = [index for index in mine if lengths[index] > place]
                if not active:
                    break
                logits, q = self._next_logits(model, [rows[index] for index in active]), None
                if not greedy:
                    samplings = [self._rows[rows[index]].sampling for index in active]
                    q = probabilities_per_row(logits[:, None], samplings)[:, 0]
                going = confidence.lasting(active, q, logits)
                for index in set(active) - {active[each] for each in going}:
                    lengths[index] = place
                active, logits = [active[each] for each in going], logits[going]
                if q is None:
                    choice = logits.argmax(-1)
                else:
                    q = q[going]
                    choice = sample(q, noise[active, place].to(q.device))
                    if vocabulary is not None and vocabulary is not self._vocabulary:
                        q = spread(q, columns_in(self._vocabulary, vocabulary), self._columns)
                    if probs is None:
                        probs = q.new_zeros(len(rows), max(k), self._columns)
                    probs[active, place] = q
                if vocabulary is not None:
                    choice = vocabulary.to(choice.device)[choice]
                for index, token in zip(active, choice.tolist(), strict=True):
                    self._rows[rows[index]].tokens.append(token)
                    tokens[index, place] = token
        return Proposal(tokens, torch.tensor(lengths), probs, self._vocabulary)

    def _draft_at_once(
        self,
        adapter: str | None,
        rows: Sequence[int],
        mine: Sequence[int],
        lengths: list[int],
        tokens: Tensor,
    ) -> None:
        """Draft rows' most likely tokens in one call, into tokens [B, K] and lengths."""
        mine = [index for index in mine if lengths[index]]
        if not mine:
            return
        model, numbers = self._model(adapter), [rows[index] for index in mine]
        missing, counts = self._missing(model, numbers)
        drafted = self._drafting[adapter].run(
            numbers,
            model.embed(missing),
            counts,
            max(lengths[index] for index in mine),
            self.options.stop_below,
        )
        made = drafted.tokens.shape[1]
        for index, own, kept in zip(mine, drafted.tokens.tolist(), drafted.counts, strict=True):
            row, count = rows[index], min(kept, lengths[index])
            lengths[index] = count
            tokens[index, :count] = torch.tensor(own[:count], dtype=torch.int64)
            self._rows[row].tokens += own[:count]
            model.rollback(row, model.length(row) - max(0, made - 1 - count))

    def _next_logits(self, model: CachedModel, rows: Sequence[int]) -> Tensor:
        """Feed each row the tokens its cache lacks; logits [B, Vd] of what comes next."""
        missing, counts = self._missing(model, rows)
        hidden = model.forward(rows, missing, counts)
        last = hidden[torch.arange(len(rows)), torch.tensor(counts) - 1]
        return model.head(last)

    def _missing(self, model: CachedModel, rows: Sequence[int]) -> tuple[Tensor, list[int]]:
        """Tokens that the rows' caches lack, int64 [B, T], padded, and how many are real."""
        missing = [self._rows[row].tokens[model.length(row) :] for row in rows]
        counts = [len(each) for each in missing]
        padded = [each + [0] * (max(counts) - len(each)) for each in missing]
        return torch.tensor(padded, device=model.device), counts

    def commit(
        self, rows: Sequence[int], tokens: Tensor, counts: Tensor, hidden: Tensor | None = None
    ) -> None:
        """Keep what agrees with the emitted tokens, drop the rest from text and cache."""
        for row, emitted, count in zip(rows, tokens.tolist(), counts.tolist(), strict=True):
            text = self._rows[row]
            stands = text.settle(emitted[:count])
            model = self._model(text.adapter)
            # The newest token is left to feed, also where it was drafted just so.
            model.rollback(row, min(model.length(row), stands, len(text.tokens) - 1))

    def stop(self, row: int) -> None:
        """Forget the row."""
        text = self._rows.pop(row, None)
        if text is not None:
            self._model(text.adapter).rollback(row, 0)

    def _model(self, adapter: str | None) -> CachedModel:
        """The running model of an adapter, made on first use."""
        if adapter not in self._running:
            module: Any = self.module if adapter is None else self._adapted[adapter].module
            made = self._running[adapter] = CachedModel(
                module, module.get_output_embeddings(), int8=self.options.int8
            )
            drafting = made.greedy_drafting(self._vocabulary_of(adapter))
            if drafting is not None:
                self._drafting[adapter] = drafting
        return self._running[adapter]

    def _vocabulary_of(self, adapter: str | None) -> Tensor | None:
        """Target ids of the rows of the head that drafts with an adapter."""
        return self._vocabulary if adapter is None else self._adapted[adapter].vocabulary

    @property
    def _columns(self) -> int:
        """Vd: columns of a proposal's distributions."""
        count: int = self._unwrapped().get_output_embeddings().out_features
        return count


def _layer_count(model: Any) -> int:
    count: int = _text_config(model).num_hidden_layers
    return count


def _text_config(model: Any) -> Any:
    return model.config.get_text_config()
