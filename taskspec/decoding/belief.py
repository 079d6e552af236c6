"""How far a draft falls short of its promise in one answer, told from a few steps."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate, pairwise

from taskspec.decoding.cost import AcceptanceCurve
from taskspec.decoding.reach import Reach

_PRIOR = {
    -6.0: 0.05,
    -3.0: 0.05,
    -1.5: 0.12,
    -0.6: 0.2,
    0.0: 0.38,
    0.6: 0.13,
    1.5: 0.05,
    4.0: 0.02,
}
"""Shifts that may be, and trust in each. Promises were measured on other prompts: drafts more often
fall short of them than not, now and then they are of no use at all, or copy all of a text."""
_SURE = 0.98
"""No promise is surer: a single token that fell would refute it."""
_DRAFTED_WEIGHT = 4.0
"""Steps that the promise of how much is drafted counts for."""
_DOUBT = 8.0
"""However long a draft did well, nothing is ruled out further than by this much, in nats."""
_LIKE_OTHERS = 0.7
"""Trust that an answer is like those before it."""
_NEGLIGIBLE = 1e-3
"""Worlds trusted less than this, beside the likeliest, are left out of what to expect."""


class Belief:
    """A draft's acceptance in one answer: its promise, moved by what the answer's steps show.

    An answer has a few dozen steps, too few to learn acceptance place by place. So each drafted
    token's chance to stand, given that those before it stood, moves by the same shift of its
    log-odds at all places; Bayes' rule weighs the shifts that may be. How many tokens are drafted
    is learnt beside that, so that a draft which is silent where it knows nothing is not taken to
    be wrong.

    Args:
        promise: What was measured before, or expected.
        longest: The longest draft length K, at most as many as the promise knows.
    """

    def __init__(self, promise: AcceptanceCurve, longest: int) -> None:
        self._reach = Reach(promise, longest, _DRAFTED_WEIGHT)
        self._worlds = _worlds(promise.block_efficiency[:longest], self._reach.promised)
        self._prior: Sequence[float] = _LOG_PRIOR
        self._trust = list(self._prior)

    def renewed(self) -> Belief:
        """What to expect of another answer, where this one was learnt from many.

        Answers differ: the first prior keeps a part.
        """
        other, most = copy.copy(self), max(self._trust)
        trusts = [math.exp(trust - most) for trust in self._trust]
        whole = sum(trusts)
        other._prior = [
            math.log(_LIKE_OTHERS * trust / whole + (1 - _LIKE_OTHERS) * first)
            for trust, first in zip(trusts, _PRIOR.values(), strict=True)
        ]
        other._trust, other._reach = list(other._prior), self._reach.renewed()
        return other

    def learn(self, asked: int, drafted: int, accepted: int) -> None:
        """Take in a step that nothing cut.

        Args:
            asked: Tokens that the draft was asked for, at most K.
            drafted: Tokens that it proposed.
            accepted: How many of them stood.
        """
        place = 2 * accepted + (accepted < drafted)
        pairs = zip(self._trust, self._worlds, strict=True)
        trusts = [trust + world.evidence[place] for trust, world in pairs]
        least = max(trusts) - _DOUBT
        self._trust = [max(trust, least) for trust in trusts]
        self._reach.learn(asked, drafted)

    def fade(self, share: float) -> None:
        """Let what was seen weigh for a share of what it did."""
        self._trust = [
            prior + share * (trust - prior)
            for trust, prior in zip(self._trust, self._prior, strict=True)
        ]
        self._reach.fade(share)

    def expected(self) -> tuple[list[float], list[float]]:
        """What steps that are asked for K tokens draft and bring.

        Returns:
            The share of steps that draft at least 1 to K tokens, and that in which at least 1 to K
            stand.
        """
        most = max(self._trust)
        standing, whole = [0.0] * len(self._reach.promised), 0.0
        for trust, world in zip(self._trust, self._worlds, strict=True):
            share = math.exp(trust - most)
            if share > _NEGLIGIBLE:
                whole += share
                pairs = zip(standing, world.standing, strict=True)
                standing = [stand + share * own for stand, own in pairs]
        reach = self._reach.shares()
        return reach, [own * stand / whole for own, stand in zip(reach, standing, strict=True)]


class _World:
    """What steps say and bring if every chance is shifted so.

    Args:
        chances: Of each drafted token to stand, given that those before it stood.
        shift: Added to their log-odds.

    Attributes:
        standing: Probability that the first 1 to K tokens stand where so many are drafted.
        evidence: Log-probabilities: at 2n that the first n tokens stand, at 2n + 1 that the next
            one then falls.
    """

    def __init__(self, chances: Sequence[float], shift: float) -> None:
        odds = [math.exp(shift) * chance / (1 - chance) for chance in chances]
        shifted = [each / (1 + each) for each in odds]
        standing = list(accumulate(shifted, lambda before, chance: before * chance, initial=1.0))
        self.standing = tuple(standing[1:])
        evidence = []
        for stand, chance in zip(standing, shifted, strict=False):
            evidence += [math.log(stand), math.log(stand) + math.log(1 - chance)]
        self.evidence = (*evidence, math.log(standing[-1]))


@lru_cache(maxsize=256)
def _worlds(block_efficiency: Sequence[float], drafted: Sequence[float]) -> tuple[_World, ...]:
    """What each shift makes of a promise; the same for all answers."""
    stood = [b - a for a, b in pairwise((1.0, *block_efficiency))]
    standing = [
        own / reach if reach > 0 else 0.0 for own, reach in zip(stood, drafted, strict=True)
    ]
    chances = [
        min(_SURE, max(1 - _SURE, after / before if before > 0 else 0.0))
        for before, after in pairwise((1.0, *standing))
    ]
    return tuple(_World(chances, shift) for shift in _PRIOR)


_LOG_PRIOR = tuple(map(math.log, _PRIOR.values()))
