"""When a draft ends early: where its tokens, as it sees them, would hardly all be accepted."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from taskspec.interfaces import Sampling


class Confidence:
    """Follows how sure a draft is of all its tokens so far, row by row.

    The chance of a draft is the product of its distributions' highest probabilities, as in
    EAGLE-2 (arXiv 2406.16858, section 4.1). Whether a token is proposed is decided from its
    distribution, before it is sampled, so the verifier's laws hold. A greedy row is certain of its
    token by definition; how sure the draft is, its logits say, whatever rows are beside it.

    Args:
        rows: Number of rows.
        least: Below this chance a draft ends; 0 ends none.
        samplings: The rows' logits processors; None when all are greedy.
    """

    def __init__(
        self, rows: int, least: float, samplings: Sequence[Sampling] | None = None
    ) -> None:
        self.least = least
        self.chances = [1.0] * rows
        self.drawn = [samplings is not None and not samplings[row].greedy for row in range(rows)]

    def lasting(self, rows: list[int], probs: Tensor | None, logits: Tensor) -> list[int]:
        """Places in `rows` of those that go on with a token.

        Args:
            rows: n rows, by index.
            probs: float [n, Vd], the distributions of the token; None when all rows are greedy.
            logits: float [n, Vd], what the distributions came from.
        """
        if not self.least:
            return list(range(len(rows)))
        sure = logits.float().softmax(-1).amax(-1)
        drawn = sure if probs is None else probs.float().amax(-1)
        for row, *chances in zip(rows, *torch.stack((sure, drawn)).tolist(), strict=True):
            self.chances[row] *= chances[self.drawn[row]]
        return [place for place, row in enumerate(rows) if self.chances[row] >= self.least]


def check_stop_below(chance: float) -> None:
    """Refuse what is no chance.

    Raises:
        ValueError: When it is not in [0, 1).
    """
    if not 0 <= chance < 1:
        raise ValueError("stop_below must be 0 (never) or a probability below 1")
