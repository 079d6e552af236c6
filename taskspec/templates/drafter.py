"""Drafting with a table: which token mostly followed which in the target's answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from taskspec.interfaces import DraftCorpus, Drafter, Proposal, Sampling, Target, option

_FILE = "pairs.safetensors"


@dataclass(frozen=True)
class MyPluginOptions:
    """Options of `my-plugin`."""

    min_count: int = option(2, "Fewest times that a token must have followed another.")

    def __post_init__(self) -> None:
        if self.min_count < 1:
            raise ValueError("min_count must be at least 1")


class MyPlugin(Drafter):
    """Follows the most frequent pairs of tokens; its proposals are certain, so they are one-hot."""

    name = "my-plugin"
    Options = MyPluginOptions
    learns_from_corpus = True

    def __init__(
        self, options: MyPluginOptions | None = None, after: dict[int, int] | None = None
    ) -> None:
        super().__init__(options)
        self._after = after or {}
        self._last: dict[int, int] = {}

    @classmethod
    def build(cls, target: Target, corpus: DraftCorpus, options: MyPluginOptions) -> Self:
        """Count the pairs."""
        pairs: Counter[tuple[int, int]] = Counter()
        for answer in corpus.answers:
            pairs.update(zip(answer, answer[1:], strict=False))
        after: dict[int, int] = {}
        for (token, following), count in sorted(pairs.items(), key=lambda each: -each[1]):
            if count >= options.min_count:
                after.setdefault(token, following)
        return cls(options, after)

    @classmethod
    def load(cls, folder: Path, target: Target, options: MyPluginOptions) -> Self:
        """Read the table."""
        pairs = load_file(folder / _FILE)["pairs"].tolist()
        return cls(options, {token: following for token, following in pairs})

    def save(self, folder: Path) -> None:
        """Write the table."""
        pairs = torch.tensor(list(self._after.items()), dtype=torch.int64).reshape(-1, 2)
        save_file({"pairs": pairs}, folder / _FILE)

    def start(
        self,
        row: int,
        prompt: Sequence[int],
        sampling: Sampling,
        hidden: Tensor | None = None,
        adapter: str | None = None,
    ) -> None:
        """Remember the last token; nothing else counts here."""
        self._last[row] = prompt[-1]

    def propose(self, rows: Sequence[int], k: Sequence[int], noise: Tensor) -> Proposal:
        """Follow the pairs for up to k tokens."""
        tokens = torch.zeros(len(rows), max(k), dtype=torch.int64)
        lengths = torch.zeros(len(rows), dtype=torch.int64)
        for index, (row, count) in enumerate(zip(rows, k, strict=True)):
            token = self._last[row]
            while lengths[index] < count and token in self._after:
                token = self._after[token]
                tokens[index, lengths[index]] = token
                lengths[index] += 1
        return Proposal(tokens, lengths)

    def commit(
        self, rows: Sequence[int], tokens: Tensor, counts: Tensor, hidden: Tensor | None = None
    ) -> None:
        """Go on from the last emitted token."""
        for index, row in enumerate(rows):
            self._last[row] = int(tokens[index, counts[index] - 1])

    def stop(self, row: int) -> None:
        """Forget the row."""
        del self._last[row]
