"""Draft with a small causal language model: cut from the target, or loaded."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from taskspec.decoding.cached_model import CachedModel
from taskspec.decoding.writing import write_texts
from taskspec.errors import ModelError
from taskspec.interfaces import (
    DraftCorpus,
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
from taskspec.models.tokenizers import check_same_tokenizer
from taskspec.training.attention import final_states
from taskspec_drafters.adapted import DraftsByAdapter
from taskspec_drafters.confidence import check_stop_below
from taskspec_drafters.modes import evaluating
from taskspec_drafters.text_rows import TextRows

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


class CausalLM(DraftsByAdapter):
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
        super().__init__(options, model, vocabulary)

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
        # Models with one tokenizer may pad their heads to different numbers of rows.
        rows = len(source.get_output_embeddings().weight)
        size = min(rows, target.vocabulary_size)
        vocabulary = None
        if 0 < options.vocabulary < size:
            vocabulary = choose_vocabulary(
                [*corpus.answers, *corpus.prompts],
                options.vocabulary,
                size,
                always=target.eos_token_ids,
            )
        elif rows != target.vocabulary_size:
            vocabulary = torch.arange(size)
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
    def needs_recovery(self) -> bool:
        """True when cut from the target: the layers have never seen each other."""
        options: CausalLMOptions = self.options
        return options.model is None

    @property
    def longest_text(self) -> int:
        """The window: of longer texts only the newest part is read."""
        options: CausalLMOptions = self.options
        made_for: int = _text_config(self._unwrapped()).max_position_embeddings
        return min(options.window or made_for, made_for)

    def training_states(self, batch: TrainingBatch, teacher: TeacherSignal) -> Tensor:
        """Final states [M, D] at the trained positions; the teacher's are not used."""
        return final_states(self._unwrapped(), batch)[batch.trained]

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

    def _work(self, module: Any, vocabulary: Tensor | None) -> TextRows:
        options: CausalLMOptions = self.options
        return TextRows(module, vocabulary, self.longest_text, options.int8, options.stop_below)


def _layer_count(model: Any) -> int:
    count: int = _text_config(model).num_hidden_layers
    return count


def _text_config(model: Any) -> Any:
    return model.config.get_text_config()
