"""A small trainable draft, and what aligners are given to train it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from taskspec.corpus.answers import StoredAnswer
from taskspec.interfaces import (
    DraftCorpus,
    Proposal,
    Sampling,
    Target,
    TeacherSignal,
    TrainableDrafter,
    TrainingBatch,
)
from taskspec.models.cutting import cut_language_model, load_cut_model, save_cut_model
from taskspec.testing.toy_target import states, toy_corpus, toy_target
from taskspec.training.attention import final_states
from taskspec.training.batches import AlignmentBatch, make_batch


class ToyDraft(TrainableDrafter):
    """Two layers of the toy target; it trains and is saved, but drafts nothing."""

    name = "toy-draft"

    def __init__(self, options: Any = None, module: nn.Module | None = None) -> None:
        super().__init__(options)
        self._module = module

    @classmethod
    def build(cls, target: Target, corpus: DraftCorpus, options: Any) -> Self:
        """Cut two layers out of the target."""
        return cls(options, cut_language_model(target.model, 2, None))

    @classmethod
    def load(cls, folder: Path, target: Target, options: Any) -> Self:
        """Load the model."""
        return cls(options, load_cut_model(folder, target.dtype, target.device)[0])

    def save(self, folder: Path) -> None:
        """Write the model."""
        save_cut_model(self.module, None, folder)

    @property
    def module(self) -> nn.Module:
        """The model."""
        assert self._module is not None
        return self._module

    @module.setter
    def module(self, module: nn.Module) -> None:
        self._module = module

    @property
    def vocabulary(self) -> Tensor | None:
        """All tokens."""
        return None

    def add_adapter(self, name: str, folder: Path) -> None:
        """Put a PEFT adapter on the model."""
        from peft import PeftModel

        self._module = PeftModel.from_pretrained(self.module, folder)

    def training_states(self, batch: TrainingBatch, teacher: TeacherSignal) -> Tensor:
        """Final states [M, D] at the trained positions."""
        return final_states(self._unwrapped(), batch)[batch.trained]

    @property
    def training_head(self) -> nn.Module:
        """The output head."""
        head: nn.Module = self._unwrapped().get_output_embeddings()
        return head

    def _unwrapped(self) -> Any:
        """The transformers model, within which peft puts its adapters."""
        model: Any = self.module
        return model.get_base_model() if hasattr(model, "get_base_model") else model

    def start(
        self,
        row: int,
        prompt: Sequence[int],
        sampling: Sampling,
        hidden: Tensor | None = None,
        adapter: str | None = None,
    ) -> None:
        """Nothing to do."""

    def propose(self, rows: Sequence[int], k: Sequence[int], noise: Tensor) -> Proposal:
        """Nothing to propose."""
        nothing = torch.zeros(len(rows), dtype=torch.int64)
        return Proposal(nothing[:, None][:, :0], nothing)

    def commit(
        self, rows: Sequence[int], tokens: Tensor, counts: Tensor, hidden: Tensor | None = None
    ) -> None:
        """Nothing to do."""

    def stop(self, row: int) -> None:
        """Nothing to do."""


def toy_draft() -> ToyDraft:
    """A fresh draft in training mode."""
    draft = ToyDraft.build(toy_target(), DraftCorpus([], []), None)
    draft.module.train()
    return draft


@lru_cache(maxsize=1)
def toy_answers() -> tuple[StoredAnswer, ...]:
    """The toy corpus with the target's view of every answer token."""
    target, corpus = toy_target(), toy_corpus()
    answers = []
    for number, (prompt, answer) in enumerate(zip(corpus.prompts, corpus.answers, strict=True)):
        hidden = states(target, [*prompt, *answer[:-1]], (-1,))[len(prompt) - 1 :].clone()
        with torch.no_grad():
            normalizer = target.head(hidden).logsumexp(-1)
        identity = f"toy-{number}"
        stored = StoredAnswer(identity, tuple(prompt), tuple(answer), False, hidden, normalizer)
        answers.append(stored)
    return tuple(answers)


def toy_alignment(count: int = 4, start: int = 0) -> AlignmentBatch:
    """A training batch of some of the answers."""
    return make_batch(toy_answers()[start : start + count], toy_target().head)


def with_padding(made: AlignmentBatch, columns: int = 5) -> AlignmentBatch:
    """The same batch with columns of padding whose tokens are arbitrary."""
    batch = made.batch
    extra = torch.full((batch.tokens.shape[0], columns), 7)
    wider = TrainingBatch(
        torch.cat([batch.tokens, extra], 1),
        torch.cat([batch.positions, torch.zeros_like(extra)], 1),
        torch.cat([batch.segments, torch.full_like(extra, -1)], 1),
        torch.cat([batch.trained, torch.zeros_like(extra, dtype=torch.bool)], 1),
    )
    return replace(made, batch=wider)


def packed_together(made: AlignmentBatch) -> AlignmentBatch:
    """The same sequences one after another in a single row, each a segment of its own."""
    batch = made.batch
    real = [row >= 0 for row in batch.segments]
    segments = [torch.full((int(keep.sum()),), number) for number, keep in enumerate(real)]

    def joined(value: Tensor) -> Tensor:
        return torch.cat([row[keep] for row, keep in zip(value, real, strict=True)])[None]

    packed = TrainingBatch(
        joined(batch.tokens),
        joined(batch.positions),
        torch.cat(segments)[None],
        joined(batch.trained),
    )
    return replace(made, batch=packed)
