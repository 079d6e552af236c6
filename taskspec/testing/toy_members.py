"""Simple drafts that stand in for the pool's when a drafter drafts with others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from taskspec.decoding.sampling import probabilities, sample
from taskspec.interfaces import DraftCorpus, Drafter, Member, Proposal, Sampling, Target
from taskspec.testing.toy_target import VOCABULARY, toy_target

_KEPT = torch.arange(0, VOCABULARY, 2)


def toy_members(count: int) -> list[Member]:
    """Drafts for `Drafter.join`: ones that copy, and at the end one that samples."""
    made: list[Drafter] = [ToyCopier() for _ in range(count - 1)]
    return [Member(drafter, None) for drafter in [*made, ToySampler()][-count:]]


class _ToyMember(Drafter):
    """Remembers the text of each row; nothing else is kept between calls."""

    def __init__(self, options: Any = None) -> None:
        super().__init__(options)
        self._texts: dict[int, tuple[list[int], Sampling]] = {}

    @classmethod
    def build(cls, target: Target, corpus: DraftCorpus, options: Any) -> Self:
        """Nothing is learnt."""
        return cls(options)

    @classmethod
    def load(cls, folder: Path, target: Target, options: Any) -> Self:
        """Nothing is stored."""
        return cls(options)

    def save(self, folder: Path) -> None:
        """Nothing to store."""

    def start(
        self,
        row: int,
        prompt: Sequence[int],
        sampling: Sampling,
        hidden: Tensor | None = None,
        adapter: str | None = None,
    ) -> None:
        """Remember the prompt."""
        self._texts[row] = (list(prompt), sampling)

    def commit(
        self, rows: Sequence[int], tokens: Tensor, counts: Tensor, hidden: Tensor | None = None
    ) -> None:
        """Remember the emitted tokens."""
        for row, emitted, count in zip(rows, tokens.tolist(), counts.tolist(), strict=True):
            self._texts[row][0].extend(emitted[:count])

    def stop(self, row: int) -> None:
        """Forget the row."""
        del self._texts[row]


class ToyCopier(_ToyMember):
    """Proposes what followed the last token when it occurred before; nothing where it did not."""

    name = "toy-copier"

    def propose(self, rows: Sequence[int], k: Sequence[int], noise: Tensor) -> Proposal:
        """Copy up to k tokens."""
        tokens = torch.zeros(len(rows), max(k, default=0), dtype=torch.int64)
        lengths = []
        for index, (row, count) in enumerate(zip(rows, k, strict=True)):
            text, _ = self._texts[row]
            places = [place for place, token in enumerate(text[:-1]) if token == text[-1]]
            copied = text[places[-1] + 1 :][:count] if places else []
            tokens[index, : len(copied)] = torch.tensor(copied, dtype=torch.int64)
            lengths.append(len(copied))
        return Proposal(tokens, torch.tensor(lengths))


class ToySampler(_ToyMember):
    """Samples from the toy target's own predictions for every other token, read anew each time."""

    name = "toy-sampler"

    @torch.inference_mode()
    def propose(self, rows: Sequence[int], k: Sequence[int], noise: Tensor) -> Proposal:
        """Draft k tokens."""
        width = max(k, default=0)
        tokens = torch.zeros(len(rows), width, dtype=torch.int64)
        probs = torch.zeros(len(rows), width, len(_KEPT))
        for index, (row, count) in enumerate(zip(rows, k, strict=True)):
            text, sampling = self._texts[row]
            for place in range(count):
                known = torch.tensor([[*text, *tokens[index, :place].tolist()]])
                logits = toy_target().model(known).logits[0, -1, _KEPT]
                probs[index, place] = probabilities(logits / 2, sampling)
                drawn = sample(probs[index, place], noise[index, place])
                tokens[index, place] = _KEPT[drawn]
        return Proposal(tokens, torch.tensor(list(k)), probs, _KEPT)
