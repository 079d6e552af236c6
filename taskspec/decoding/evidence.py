"""What is known of a draft's acceptance: a promise at first, then more and more what was seen."""

from __future__ import annotations

from itertools import accumulate, pairwise

from taskspec.decoding.cost import AcceptanceCurve
from taskspec.decoding.reach import Reach


class Evidence:
    """Acceptance at each place of a draft, learnt step by step.

    Args:
        promise: What was measured before.
        longest: The longest draft length, at most as many as the promise knows.
        weight: Steps that the promise counts for.
    """

    def __init__(self, promise: AcceptanceCurve, longest: int, weight: float) -> None:
        self._reach = Reach(promise, longest, weight)
        tau = (1.0, *promise.block_efficiency[:longest])
        self._promised = [weight * (b - a) for a, b in pairwise(tau)]
        self._stood = list(self._promised)
        self._curve: AcceptanceCurve | None = None

    def learn(self, asked: int, drafted: int, accepted: int) -> None:
        """Take in a step that nothing cut.

        Args:
            asked: Tokens that the draft was asked for.
            drafted: Tokens that it proposed.
            accepted: How many of them stood.
        """
        self._curve = None
        self._reach.learn(asked, drafted)
        for place in range(min(accepted, len(self._stood))):
            self._stood[place] += 1

    def fade(self, share: float) -> None:
        """Let what was seen count for a share of what it did."""
        self._curve = None
        self._reach.fade(share)
        pairs = zip(self._stood, self._promised, strict=True)
        self._stood = [promised + share * (stood - promised) for stood, promised in pairs]

    @property
    def curve(self) -> AcceptanceCurve:
        """What to expect now."""
        if self._curve is None:
            pairs = zip(self._stood, self._reach.asked, strict=True)
            reach = [1.0, *self._reach.shares(), 0.0]
            self._curve = AcceptanceCurve(
                tuple(accumulate((own / asked for own, asked in pairs), initial=1.0))[1:],
                tuple(a - b for a, b in pairwise(reach)),
            )
        return self._curve
