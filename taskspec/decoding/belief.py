"""How far a draft falls short of its promise in one answer, told from a few steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate, pairwise

from taskspec.decoding.cost import AcceptanceCurve

_PRIOR = {
    -8.0: 0.02,
    -6.0: 0.02,
    -4.0: 0.03,
    -3.0: 0.03,
    -2.0: 0.07,
    -1.0: 0.1,
    -0.5: 0.14,
    0.0: 0.4,
    0.5: 0.1,
    1.0: 0.05,
    2.0: 0.03,
    4.0: 0.01,
}
"""Shifts that may be, and trust in each. Promises were measured on other prompts: drafts more often
fall short of them than not, now and then they are of no use at all, or copy all of a text."""
_LOG_PRIOR = tuple(map(math.log, _PRIOR.values()))
_SURE = 0.98
"""No promise is surer: a single token that fell would refute it."""
_DRAFTED_WEIGHT = 4.0
"""Steps that the promise of how much is drafted counts for."""


class Belief:
    """A draft's acceptance in one answer: its promise, moved by what the answer's steps show.

    An answer has a few dozen steps, too few to learn acceptance place by place. So each drafted
    token's chance to stand, given that those before it stood, moves by the same shift of its
    log-odds at all places; Bayes' rule weighs the shifts that may be. A token that was asked for
    and not drafted counts as one that fell.

    Args:
        promise: What was measured before, or expected.
        longest: The longest draft length, at most as many as the promise knows.
    """

    def __init__(self, promise: AcceptanceCurve, longest: int) -> None:
        drafted = [promise.mean_drafted(k) for k in range(longest + 1)]
        self._promised = [_DRAFTED_WEIGHT * (b - a) for a, b in pairwise(drafted)]
        self._drafted, self._tried = list(self._promised), [_DRAFTED_WEIGHT] * longest
        self._worlds = _worlds(promise.block_efficiency[:longest])
        self._trust = list(_LOG_PRIOR)
        self._curve: AcceptanceCurve | None = None

    def learn(self, asked: int, drafted: int, accepted: int) -> None:
        """Take in a step that nothing cut.

        Args:
            asked: Tokens that the draft was asked for.
            drafted: Tokens that it proposed.
            accepted: How many of them stood.
        """
        self._curve = None
        asked = min(asked, len(self._tried))
        for place, world in enumerate(self._worlds):
            self._trust[place] += world.stood[accepted]
            if accepted < asked:
                self._trust[place] += world.fell[accepted]
        for place in range(asked):
            self._tried[place] += 1
            self._drafted[place] += drafted > place

    def fade(self, share: float) -> None:
        """Let what was seen weigh for a share of what it did."""
        self._curve = None
        self._trust = _between(self._trust, _LOG_PRIOR, share)
        self._drafted = _between(self._drafted, self._promised, share)
        self._tried = [_DRAFTED_WEIGHT + share * (tried - _DRAFTED_WEIGHT) for tried in self._tried]

    @property
    def curve(self) -> AcceptanceCurve:
        """What to expect now."""
        if self._curve is None:
            most = max(self._trust)
            shares = [math.exp(trust - most) for trust in self._trust]
            whole = sum(shares)
            columns = zip(*(world.block_efficiency for world in self._worlds), strict=True)
            tau = (
                sum(share * own for share, own in zip(shares, column, strict=True)) / whole
                for column in columns
            )
            drafted = (own / tried for own, tried in zip(self._drafted, self._tried, strict=True))
            # Later places are tried less often: their share may seem larger than an earlier one.
            reach = [1.0, *accumulate(drafted, min), 0.0]
            self._curve = AcceptanceCurve(tuple(tau), tuple(a - b for a, b in pairwise(reach)))
        return self._curve


class _World:
    """What steps say and bring if every chance is shifted so.

    Args:
        chances: Of each place to stand, given that those before it stood.
        shift: Added to their log-odds.

    Attributes:
        block_efficiency: tau at draft lengths 1, 2, ...
        stood: Log-probability that the first 0, 1, 2, ... tokens stand.
        fell: Log-probability that the next one then falls.
    """

    def __init__(self, chances: Sequence[float], shift: float) -> None:
        odds = [math.exp(shift) * chance / (1 - chance) for chance in chances]
        shifted = [each / (1 + each) for each in odds]
        standing = accumulate(shifted, lambda before, chance: before * chance)
        self.block_efficiency = tuple(accumulate(standing, initial=1.0))[1:]
        self.stood = tuple(accumulate(map(math.log, shifted), initial=0.0))
        self.fell = tuple(math.log(1 - chance) for chance in shifted)


@lru_cache(maxsize=256)
def _worlds(block_efficiency: tuple[float, ...]) -> tuple[_World, ...]:
    """What each shift makes of a promise; the same for all answers."""
    chances = _chances(block_efficiency)
    return tuple(_World(chances, shift) for shift in _PRIOR)


def _between(values: Sequence[float], first: Sequence[float], share: float) -> list[float]:
    """Values moved to what they were at first, of which a share of the difference is left."""
    return [was + share * (value - was) for value, was in zip(values, first, strict=True)]


def _chances(block_efficiency: Sequence[float]) -> list[float]:
    """Each place's chance to stand, given that those before it stood; never quite 0 or 1."""
    standing = [b - a for a, b in pairwise((0.0, 1.0, *block_efficiency))]
    return [
        min(_SURE, max(1 - _SURE, after / before if before > 0 else 0.0))
        for before, after in pairwise(standing)
    ]
