"""How far a draft falls short of its promise in one answer, told from a few steps."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, pairwise

import numpy as np
from numpy.typing import NDArray

from taskspec.decoding.cost import AcceptanceCurve

Array = NDArray[np.float64]
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
        self._promised = _DRAFTED_WEIGHT * np.diff(drafted)
        self._drafted, self._tried = self._promised.copy(), np.full(longest, _DRAFTED_WEIGHT)
        self._worlds = _worlds(promise.block_efficiency[:longest])
        self._trust = _log_prior()
        self._curve: AcceptanceCurve | None = None

    def learn(self, asked: int, drafted: int, accepted: int) -> None:
        """Take in a step that nothing cut.

        Args:
            asked: Tokens that the draft was asked for.
            drafted: Tokens that it proposed.
            accepted: How many of them stood.
        """
        self._curve = None
        self._trust += self._worlds.stood[:, accepted]
        if accepted < min(asked, len(self._tried)):
            self._trust += self._worlds.fell[:, accepted]
        self._tried[:asked] += 1
        self._drafted[:drafted] += 1

    def fade(self, share: float) -> None:
        """Let what was seen weigh for a share of what it did."""
        self._curve = None
        self._trust += (1 - share) * (_log_prior() - self._trust)
        self._drafted += (1 - share) * (self._promised - self._drafted)
        self._tried += (1 - share) * (_DRAFTED_WEIGHT - self._tried)

    @property
    def curve(self) -> AcceptanceCurve:
        """What to expect now."""
        if self._curve is None:
            shares = np.exp(self._trust - self._trust.max())
            tau = shares @ self._worlds.block_efficiency / shares.sum()
            # Later places are tried less often: their share may seem larger than an earlier one.
            reach = [1.0, *accumulate((self._drafted / self._tried).tolist(), min), 0.0]
            drafted = tuple(a - b for a, b in pairwise(reach))
            self._curve = AcceptanceCurve(tuple(tau.tolist()), drafted)
        return self._curve


@dataclass(frozen=True)
class _Worlds:
    """What steps say and bring in W worlds, each with chances shifted by another amount.

    Attributes:
        block_efficiency: tau at draft lengths 1 to K: float64 [W, K].
        stood: Log-probability that the first 0 to K tokens stand: float64 [W, K+1].
        fell: Log-probability that the next one then falls: float64 [W, K].
    """

    block_efficiency: Array
    stood: Array
    fell: Array


@lru_cache(maxsize=256)
def _worlds(block_efficiency: tuple[float, ...]) -> _Worlds:
    """What each shift makes of a promise; the same for all answers."""
    standing = np.diff([0.0, 1.0, *block_efficiency])
    before, after = standing[:-1], standing[1:]
    chances = np.divide(after, before, out=np.zeros_like(after), where=before > 0)
    chances = chances.clip(1 - _SURE, _SURE)
    odds = np.exp([[shift] for shift in _PRIOR]) * chances / (1 - chances)
    shifted = odds / (1 + odds)
    return _Worlds(
        1 + shifted.cumprod(axis=1).cumsum(axis=1),
        np.pad(np.log(shifted).cumsum(axis=1), ((0, 0), (1, 0))),
        -np.log1p(odds),
    )


def _log_prior() -> Array:
    return np.log(list(_PRIOR.values()))
