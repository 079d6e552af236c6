"""Draft by copying: the tokens that followed the last few tokens earlier in the text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from taskspec.interfaces import DraftCorpus, Drafter, Proposal, Sampling, Target, option


@dataclass(frozen=True)
class PromptLookupOptions:
    """Options of `prompt-lookup`."""

    max_ngram: int = option(4, "Longest run of last tokens to look for.")
    min_ngram: int = option(2, "Shortest run of last tokens to look for.")

    def __post_init__(self) -> None:
        if not 1 <= self.min_ngram <= self.max_ngram:
            raise ValueError("min_ngram must be at least 1 and at most max_ngram")


@dataclass
class _Row:
    """The text so far and, per n-gram length, where each n-gram last ended (exclusive)."""

    tokens: list[int] = field(default_factory=list)
    ends: dict[tuple[int, ...], int] = field(default_factory=dict)


class PromptLookup(Drafter):
    """Copies what followed the longest matching n-gram of the prompt and answer so far.

    Prompt lookup decoding; deterministic, so every proposal counts as one-hot.
    """

    name = "prompt-lookup"
    Options = PromptLookupOptions
    copies = True

    def __init__(self, options: PromptLookupOptions | None = None) -> None:
        super().__init__(options)
        self._rows: dict[int, _Row] = {}

    @classmethod
    def build(cls, target: Target, corpus: DraftCorpus, options: Any) -> Self:
        """Nothing is learnt beforehand."""
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
        """Index the prompt."""
        self._rows[row] = _Row()
        self._append(self._rows[row], prompt)

    def propose(self, rows: Sequence[int], k: Sequence[int], noise: Tensor) -> Proposal:
        """Copy up to k tokens for each row; none where nothing matches."""
        found = [
            self._continuation(self._rows[row], count) for row, count in zip(rows, k, strict=True)
        ]
        tokens = torch.zeros(len(rows), max(map(len, found), default=0), dtype=torch.int64)
        for index, copied in enumerate(found):
            tokens[index, : len(copied)] = torch.tensor(copied, dtype=torch.int64)
        return Proposal(tokens, torch.tensor([len(copied) for copied in found]))

    def commit(
        self, rows: Sequence[int], tokens: Tensor, counts: Tensor, hidden: Tensor | None = None
    ) -> None:
        """Index the emitted tokens."""
        for row, emitted, count in zip(rows, tokens.tolist(), counts.tolist(), strict=True):
            self._append(self._rows[row], emitted[:count])

    def stop(self, row: int) -> None:
        """Forget the row's text."""
        self._rows.pop(row, None)

    def _append(self, row: _Row, tokens: Sequence[int]) -> None:
        """Add tokens; an n-gram is indexed only once something follows it."""
        for token in tokens:
            end = len(row.tokens)
            for length in range(self.options.min_ngram, min(self.options.max_ngram, end) + 1):
                row.ends[tuple(row.tokens[end - length :])] = end
            row.tokens.append(token)

    def _continuation(self, row: _Row, count: int) -> list[int]:
        """What followed the most recent occurrence of the longest known last n-gram."""
        for length in range(self.options.max_ngram, self.options.min_ngram - 1, -1):
            end = row.ends.get(tuple(row.tokens[-length:]))
            if end is not None:
                return row.tokens[end : end + count]
        return []
