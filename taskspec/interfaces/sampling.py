"""How a request turns logits into its next-token distribution."""

from __future__ import annotations

import math
from dataclasses import dataclass

GREEDY_EPSILON = 1e-5
"""Temperatures below this are greedy; the one epsilon that every part shares."""


@dataclass(frozen=True)
class Sampling:
    """A request's logits processors, applied in this order.

    Attributes:
        temperature: Divides the logits; below `GREEDY_EPSILON` the distribution is one-hot at
            the largest logit.
        top_k: Keep the k most likely tokens; 0 keeps all.
        top_p: Keep the smallest set of most likely tokens with at least this mass.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.temperature) and self.temperature >= 0):
            raise ValueError(
                f"temperature must be 0 (greedy) or a positive number, not {self.temperature:g}"
            )
        if self.top_k < 0:
            raise ValueError(f"top_k must be 0 (off) or positive, not {self.top_k}")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be above 0 and at most 1, not {self.top_p:g}")

    @property
    def greedy(self) -> bool:
        """Whether the distribution is one-hot."""
        return self.temperature < GREEDY_EPSILON
