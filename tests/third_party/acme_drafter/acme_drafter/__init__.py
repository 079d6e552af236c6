"""Acme's drafter for TaskSpec."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from taskspec.hookspecs import hookimpl
from taskspec.interfaces import DraftCorpus, Drafter, Proposal, Sampling, Target, option


@dataclass(frozen=True)
class EchoOptions:
    """Options of `acme-echo`."""

    most: int = option(4, "Tokens repeated at most.")


class Echo(Drafter):
    """Repeats what followed the last token when it was last seen in the request."""

    name = "acme-echo"
    Options = EchoOptions

    def __init__(self, options: EchoOptions | None = None) -> None:
        super().__init__(options)
        self._texts: dict[int, list[int]] = {}

    @classmethod
    def build(cls, target: Target, corpus: DraftCorpus, options: EchoOptions) -> Self:
        """Nothing is learnt."""
        return cls(options)

    @classmethod
    def load(cls, folder: Path, target: Target, options: EchoOptions) -> Self:
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
        self._texts[row] = list(prompt)

    def propose(self, rows: Sequence[int], k: Sequence[int], noise: Tensor) -> Proposal:
        """Repeat up to k tokens."""
        found = [self._echo(self._texts[row], n) for row, n in zip(rows, k, strict=True)]
        tokens = torch.zeros(len(rows), max(map(len, found)), dtype=torch.int64)
        for index, copied in enumerate(found):
            tokens[index, : len(copied)] = torch.tensor(copied, dtype=torch.int64)
        return Proposal(tokens, torch.tensor([len(copied) for copied in found]))

    def commit(
        self, rows: Sequence[int], tokens: Tensor, counts: Tensor, hidden: Tensor | None = None
    ) -> None:
        """Remember the emitted tokens."""
        for row, emitted, count in zip(rows, tokens.tolist(), counts.tolist(), strict=True):
            self._texts[row] += emitted[:count]

    def stop(self, row: int) -> None:
        """Forget the row."""
        del self._texts[row]

    def _echo(self, text: list[int], count: int) -> list[int]:
        for place in range(len(text) - 2, -1, -1):
            if text[place] == text[-1]:
                return text[place + 1 :][: min(count, self.options.most)]
        return []


@hookimpl
def taskspec_drafters() -> Iterable[type[Drafter]]:
    """Offer the drafter."""
    return (Echo,)
