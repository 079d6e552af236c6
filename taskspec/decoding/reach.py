"""How far drafts go: a promise at first, then more and more what was seen."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from itertools import accumulate, pairwise

from taskspec.decoding.cost import AcceptanceCurve


class Reach:
    """Share of steps that draft at least 1, 2, ... K tokens where so many are asked for.

    Args:
        promise: What was measured before.
        longest: The longest draft length K, at most as many as the promise knows.
        weight: Steps that the promise counts for.

    Attributes:
        asked: Steps that asked for at least 1, 2, ... K tokens, the promise's among them.
    """

    def __init__(self, promise: AcceptanceCurve, longest: int, weight: float) -> None:
        drafted = [promise.mean_drafted(k) for k in range(longest + 1)]
        self._weight = weight
        self._begin([b - a for a, b in pairwise(drafted)])

    def _begin(self, promised: Sequence[float]) -> None:
        self.promised = tuple(promised)
        self.asked = [self._weight] * len(self.promised)
        self._drafted = [self._weight * share for share in self.promised]

    def renewed(self) -> Reach:
        """Another one, whose promise is what is expected now."""
        other = copy.copy(self)
        other._begin(self.shares())
        return other

    def learn(self, asked: int, drafted: int) -> None:
        """Take in a step.

        Args:
            asked: Tokens that the draft was asked for.
            drafted: Tokens that it proposed.
        """
        for place in range(min(asked, len(self.asked))):
            self.asked[place] += 1
            self._drafted[place] += place < drafted

    def fade(self, share: float) -> None:
        """Let what was seen count for a share of what it did."""
        first = (1 - share) * self._weight
        self.asked = [first + share * asked for asked in self.asked]
        pairs = zip(self._drafted, self.promised, strict=True)
        self._drafted = [first * promised + share * seen for seen, promised in pairs]

    def shares(self) -> list[float]:
        """What to expect now."""
        drafted = (seen / asked for seen, asked in zip(self._drafted, self.asked, strict=True))
        # Later places are asked for less often: their share may seem larger than an earlier one.
        return list(accumulate(drafted, min))
