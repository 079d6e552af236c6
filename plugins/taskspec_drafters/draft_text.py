"""A request's text as a draft with a cache reads it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from taskspec.interfaces import Sampling


@dataclass
class DraftText:
    """What a draft reads of a request, and what it has drafted.

    Attributes:
        tokens: The newest part of the text, then what is drafted and not yet judged.
        sampling: The request's logits processors.
        adapter: Whose weights draft.
        proposed_from: Where the drafted part begins.
    """

    tokens: list[int]
    sampling: Sampling
    adapter: str | None
    proposed_from: int

    def slide(self, k: int, window: int) -> bool:
        """Keep the newest half of the window where k more tokens do not fit.

        Returns:
            Whether something was dropped, so that the rest is to be read anew.
        """
        if len(self.tokens) + k <= window:
            return False
        self.tokens = self.tokens[-(window // 2) :]
        self.proposed_from = len(self.tokens)
        return True

    def settle(self, emitted: Sequence[int]) -> int:
        """Put what was emitted in the place of what was drafted.

        Returns:
            How many leading tokens of the text are as they were.
        """
        drafted = self.tokens[self.proposed_from :]
        stands = self.proposed_from + _common_prefix(drafted, emitted)
        self.tokens[self.proposed_from :] = emitted
        self.proposed_from = len(self.tokens)
        return stands


def _common_prefix(drafted: Sequence[int], emitted: Sequence[int]) -> int:
    """How many leading tokens agree."""
    pairs = zip(drafted, emitted, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(drafted), len(emitted)))
