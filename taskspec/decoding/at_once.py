"""Drafting several greedy tokens in one call, whatever makes that one call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True)
class Drafted:
    """What rows drafted.

    Attributes:
        tokens: int64 [B, K], as many of each row; all but the last are in the cache.
        counts: How many of its tokens each row's draft keeps.
    """

    tokens: Tensor
    counts: tuple[int, ...]


class DraftsAtOnce(Protocol):
    """Drafts the most likely tokens of rows that a cache holds."""

    def run(
        self,
        rows: Sequence[int],
        embeddings: Tensor,
        counts: Sequence[int],
        steps: Sequence[int],
        least: float = 0.0,
    ) -> Drafted:
        """Append tokens to rows, then draft after them.

        Args:
            rows: B row numbers.
            embeddings: [B, T, H], what the decoder reads of the tokens that the cache lacks; row
                b's first counts[b] are real, at least one.
            counts: Real tokens of each row. The rows' lengths grow by these, and by the tokens
                drafted but one.
            steps: Tokens wanted of each row, at least 1. A row is drafted on where others want
                more; what goes beyond its own is of no use.
            least: A row keeps tokens while the chance of all of them, the product of the highest
                probabilities, is at least this; the drafting ends when no row goes on.
        """
        ...
