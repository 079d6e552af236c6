"""When a draft ends early: where its tokens, as it sees them, would hardly all be accepted."""

from __future__ import annotations

from torch import Tensor


class Confidence:
    """Follows how sure a draft is of all its tokens so far, row by row.

    The chance of a draft is the product of its distributions' highest probabilities, as in
    EAGLE-2 (arXiv 2406.16858, section 4.1). Whether a token is proposed is decided from its
    distribution, before it is sampled, so the verifier's laws hold.

    Args:
        rows: Number of rows.
        least: Below this chance a draft ends; 0 ends none.
    """

    def __init__(self, rows: int, least: float) -> None:
        self.least = least
        self.chances = [1.0] * rows

    def lasting(self, rows: list[int], probs: Tensor | None, logits: Tensor) -> list[int]:
        """Places in `rows` of those that go on with a token.

        Args:
            rows: n rows, by index.
            probs: float [n, Vd], the distributions of the token; None when rows are greedy.
            logits: float [n, Vd], what the distributions came from.
        """
        if not self.least:
            return list(range(len(rows)))
        highest = (logits.float().softmax(-1) if probs is None else probs).amax(-1).tolist()
        for row, chance in zip(rows, highest, strict=True):
            self.chances[row] *= chance
        return [place for place, row in enumerate(rows) if self.chances[row] >= self.least]


def check_stop_below(chance: float) -> None:
    """Refuse what is no chance.

    Raises:
        ValueError: When it is not in [0, 1).
    """
    if not 0 <= chance < 1:
        raise ValueError("stop_below must be 0 (never) or a probability below 1")
