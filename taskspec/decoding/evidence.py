"""What is known of a draft's acceptance: a promise at first, then more and more what was seen."""

from __future__ import annotations

from itertools import accumulate, pairwise

from taskspec.decoding.cost import AcceptanceCurve


class Evidence:
    """Acceptance at each place of a draft, learnt step by step.

    Args:
        promise: What was measured before.
        longest: The longest draft length, at most as many as the promise knows.
        weight: Steps that the promise counts for.
    """

    def __init__(self, promise: AcceptanceCurve, longest: int, weight: float) -> None:
        stood = (1.0, *promise.block_efficiency[:longest])
        drafted = [promise.mean_drafted(k) for k in range(longest + 1)]
        self._tried = [weight] * longest
        self._stood = [weight * (b - a) for a, b in pairwise(stood)]
        self._drafted = [weight * (b - a) for a, b in pairwise(drafted)]
        self._promised = list(zip(self._tried, self._stood, self._drafted, strict=True))
        self._curve: AcceptanceCurve | None = None

    def learn(self, asked: int, drafted: int, accepted: int) -> None:
        """Take in a step that nothing cut.

        Args:
            asked: Tokens that the draft was asked for.
            drafted: Tokens that it proposed.
            accepted: How many of them stood.
        """
        self._curve = None
        for place in range(min(asked, len(self._tried))):
            self._tried[place] += 1
            self._stood[place] += accepted > place
            self._drafted[place] += drafted > place

    def fade(self, share: float) -> None:
        """Let what was seen count for a share of what it did."""
        self._curve = None
        for place, (own, stood, drafted) in enumerate(self._promised):
            self._tried[place] += (1 - share) * (own - self._tried[place])
            self._stood[place] += (1 - share) * (stood - self._stood[place])
            self._drafted[place] += (1 - share) * (drafted - self._drafted[place])

    @property
    def curve(self) -> AcceptanceCurve:
        """What to expect now."""
        if self._curve is None:
            stood = [own / tried for own, tried in zip(self._stood, self._tried, strict=True)]
            drafted = (own / tried for own, tried in zip(self._drafted, self._tried, strict=True))
            # Later places are tried less often: their share may seem larger than an earlier one.
            reach = [1.0, *accumulate(drafted, min), 0.0]
            self._curve = AcceptanceCurve(
                tuple(accumulate(stood, initial=1.0))[1:], tuple(a - b for a, b in pairwise(reach))
            )
        return self._curve
