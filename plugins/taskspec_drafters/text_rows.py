"""A language model at work on rows whose text may outgrow its window."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from taskspec_drafters.drafting_rows import DraftingRows


@dataclass
class _Text:
    """What the model reads of a request, and what it has drafted.

    Attributes:
        tokens: The newest part of the text, then what is drafted and not yet judged.
        decided: Where the drafted part begins.
    """

    tokens: list[int]
    decided: int

    def slide(self, k: int, window: int) -> bool:
        """Keep the newest half of the window where k more tokens do not fit.

        Returns:
            Whether something was dropped, so that the rest is to be read anew.
        """
        if len(self.tokens) + k <= window:
            return False
        self.tokens = self.tokens[-(window // 2) :]
        self.decided = len(self.tokens)
        return True

    def settle(self, emitted: Sequence[int]) -> int:
        """Put what was emitted in the place of what was drafted.

        Returns:
            How many leading tokens of the text are as they were.
        """
        drafted = self.tokens[self.decided :]
        stands = self.decided + _common_prefix(drafted, emitted)
        self.tokens[self.decided :] = emitted
        self.decided = len(self.tokens)
        return stands


class TextRows(DraftingRows):
    """Runs a causal language model; of what it drafted, what stands stays in the cache.

    Args:
        model: The model; its weights must not change while this is in use.
        vocabulary: int64 [Vd] target ids of the head's rows; None for all.
        window: Newest tokens of a text that it reads.
        int8: As for `CachedModel`.
        stop_below: A draft ends before it is less likely than this to stand as a whole.
    """

    def __init__(
        self,
        model: nn.Module,
        vocabulary: Tensor | None,
        window: int,
        int8: bool = False,
        stop_below: float = 0.0,
    ) -> None:
        untyped: Any = model
        super().__init__(model, untyped.get_output_embeddings(), vocabulary, int8, stop_below)
        self.window = window
        self.texts: dict[int, _Text] = {}
        self.drafting = self.greedy_drafting(self.vocabulary)

    def start(self, row: int, prompt: Sequence[int], hidden: Tensor | None = None) -> None:
        """Run the prompt, as much of it as the window holds, all but its last token."""
        text = self.texts[row] = _Text(list(prompt), len(prompt))
        text.slide(1, self.window)
        self._read(row)

    def _read(self, row: int) -> None:
        """Read a row's text anew, all but its last token."""
        tokens = self.texts[row].tokens[:-1]
        self.rollback(row, 0)
        if tokens:
            self.forward([row], torch.tensor([tokens], device=self.device))

    def _make_room(self, row: int, count: int) -> None:
        """Go on from the newest half of the window where so many more tokens do not fit."""
        if self.texts[row].slide(count, self.window):
            self._read(row)

    def commit(self, row: int, emitted: Sequence[int], states: Tensor | None = None) -> None:
        """Keep what agrees with the emitted tokens, drop the rest from text and cache."""
        text = self.texts[row]
        stands = text.settle(emitted)
        # The newest token is left to feed, also where it was drafted just so.
        self.rollback(row, min(self.length(row), stands, len(text.tokens) - 1))

    def stop(self, row: int) -> None:
        """Forget a row."""
        self.texts.pop(row, None)
        super().stop(row)

    def _missing(self, rows: Sequence[int]) -> tuple[Tensor, list[int]]:
        missing = [self.texts[row].tokens[self.length(row) :] for row in rows]
        counts = [len(each) for each in missing]
        padded = [each + [0] * (max(counts) - len(each)) for each in missing]
        return self.embed(torch.tensor(padded, device=self.device)), counts

    def _inputs(self, states: Tensor, tokens: Tensor) -> Tensor:
        embeddings: Tensor = self.embed(tokens)
        return embeddings

    def _note(self, row: int, drafted: Sequence[int]) -> None:
        self.texts[row].tokens += drafted


def _common_prefix(drafted: Sequence[int], emitted: Sequence[int]) -> int:
    """How many leading tokens agree."""
    pairs = zip(drafted, emitted, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(drafted), len(emitted)))
