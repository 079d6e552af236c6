"""Hedge: which of several ways to go on, when what each would have brought is known afterwards."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence


class Hedge:
    """Exponential weights over N ways (Freund and Schapire 1997, section 2), switching seldom.

    Whatever the savings are, if each lies in [-1/2, 1/2], then after T rounds the savings that the
    shares expect fall short of any way's by at most
    `ln(1 / prior) / rate(T) + sum of rate(t) / 8`, which grows like the root of T: nothing is lost
    per round in the long run. Draws are coupled: one moves only as often as the shares do, because
    moving costs something (a draft's cache is built anew).

    Args:
        prior: Trust in each of the N ways at first, positive, summing to one.
        seed: Of its own random draws, which nothing else may share.
        first: The way to begin with.
    """

    def __init__(self, prior: Sequence[float], seed: str, first: int) -> None:
        self.prior = tuple(prior)
        self.totals = [0.0] * len(prior)
        self.rounds = 0
        self.at = first
        self._random = random.Random(seed)
        self._drawn_from = [float(way == first) for way in range(len(prior))]

    @property
    def rate(self) -> float:
        """Learning rate of the coming round."""
        return math.sqrt(8 * math.log(max(2, len(self.prior))) / (self.rounds + 1))

    def shares(self) -> list[float]:
        """Probability of each way in the coming round."""
        rate = self.rate
        logs = [
            math.log(p) + rate * total for p, total in zip(self.prior, self.totals, strict=True)
        ]
        most = max(logs)
        weights = [math.exp(each - most) for each in logs]
        return [weight / sum(weights) for weight in weights]

    def draw(self) -> int:
        """The way of the coming round: distributed as the shares, and seldom another one.

        It stays with the largest probability that leaves the distribution right (a maximal
        coupling with the last draw).
        """
        shares, before = self.shares(), self._drawn_from
        kept = min(1.0, shares[self.at] / before[self.at]) if before[self.at] else 0.0
        if self._random.random() >= kept:
            risen = [max(0.0, new - old) for new, old in zip(shares, before, strict=True)]
            ways = range(len(shares))
            self.at = self._random.choices(ways, risen if any(risen) else shares)[0]
        self._drawn_from = shares
        return self.at

    def update(self, savings: Sequence[float], rounds: int = 1) -> None:
        """Take in what each way brought.

        Args:
            savings: Per round, of each way; beyond [-1/2, 1/2] they are cut.
            rounds: How many rounds brought that.
        """
        for way, saved in enumerate(savings):
            self.totals[way] += rounds * min(0.5, max(-0.5, saved))
        self.rounds += rounds
