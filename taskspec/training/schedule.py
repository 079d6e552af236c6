"""The learning rate over a training, and how much is computed at a time."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Schedule:
    """How a draft is optimised.

    Attributes:
        learning_rate: Peak rate.
        warmup: Share of steps in which the rate rises; then it falls along a cosine to zero.
        weight_decay: AdamW's, for matrices only.
        most_logits: Logits held at a time, positions times vocabulary; 0 for a whole batch's.
    """

    learning_rate: float
    warmup: float
    weight_decay: float
    most_logits: int

    def factors(self, total: int) -> Callable[[int], float]:
        """Share of the peak rate at each of so many steps."""
        rising = max(1, round(self.warmup * total))

        def factor(step: int) -> float:
            if step < rising:
                return (step + 1) / rising
            return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, total - rising)))

        return factor
