"""How far a draft falls short of its promise in one answer, told from a few steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate, pairwise

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
_SURE = 0.98
"""No promise is surer: a single token that fell would refute it."""
_NEGLIGIBLE = 1e-3
"""Worlds trusted less than this, beside the likeliest, are left out of what to expect."""


class Belief:
    """A draft's acceptance in one answer: its promise, moved by what the answer's steps show.

    An answer has a few dozen steps, too few to learn acceptance place by place. So each drafted
    token's chance to stand, given that those before it stood, moves by the same shift of its
    log-odds at all places; Bayes' rule weighs the shifts that may be. A token that was asked for
    and not drafted counts as one that fell.

    Between passes that read all weights, caches are cold and every operation counts: this does few.

    Args:
        block_efficiency: tau that was promised at draft lengths 1 to K.
    """

    def __init__(self, block_efficiency: tuple[float, ...]) -> None:
        self._worlds = _worlds(block_efficiency)
        self._trust = list(_LOG_PRIOR)

    def learn(self, asked: int, accepted: int) -> None:
        """Take in a step that nothing cut.

        Args:
            asked: Tokens that the draft was asked for, at most K.
            accepted: How many of them it drafted and stood.
        """
        place = 2 * accepted + (accepted < asked)
        self._trust = [
            trust + world.evidence[place]
            for trust, world in zip(self._trust, self._worlds, strict=True)
        ]

    def fade(self, share: float) -> None:
        """Let what was seen weigh for a share of what it did."""
        self._trust = [
            prior + share * (trust - prior)
            for trust, prior in zip(self._trust, _LOG_PRIOR, strict=True)
        ]

    def block_efficiency(self) -> list[float]:
        """What tau to expect now at draft lengths 1 to K."""
        most = max(self._trust)
        found, whole = [0.0] * len(self._worlds[0].block_efficiency), 0.0
        for trust, world in zip(self._trust, self._worlds, strict=True):
            share = math.exp(trust - most)
            if share > _NEGLIGIBLE:
                whole += share
                pairs = zip(found, world.block_efficiency, strict=True)
                found = [tau + share * own for tau, own in pairs]
        return [tau / whole for tau in found]


class _World:
    """What steps say and bring if every chance is shifted so.

    Args:
        chances: Of each place to stand, given that those before it stood.
        shift: Added to their log-odds.

    Attributes:
        block_efficiency: tau at draft lengths 1 to K.
        evidence: Log-probabilities: at 2n that the first n tokens stand, at 2n + 1 that the next
            one then falls.
    """

    def __init__(self, chances: Sequence[float], shift: float) -> None:
        odds = [math.exp(shift) * chance / (1 - chance) for chance in chances]
        shifted = [each / (1 + each) for each in odds]
        standing = list(accumulate(shifted, lambda before, chance: before * chance, initial=1.0))
        self.block_efficiency = tuple(accumulate(standing))[1:]
        evidence = []
        for stand, chance in zip(standing, shifted, strict=False):
            evidence += [math.log(stand), math.log(stand) + math.log(1 - chance)]
        self.evidence = (*evidence, math.log(standing[-1]))


@lru_cache(maxsize=256)
def _worlds(block_efficiency: tuple[float, ...]) -> tuple[_World, ...]:
    """What each shift makes of a promise; the same for all answers."""
    standing = [b - a for a, b in pairwise((0.0, 1.0, *block_efficiency))]
    chances = [
        min(_SURE, max(1 - _SURE, after / before if before > 0 else 0.0))
        for before, after in pairwise(standing)
    ]
    return tuple(_World(chances, shift) for shift in _PRIOR)


_LOG_PRIOR = tuple(map(math.log, _PRIOR.values()))
