"""What steps cost and bring by the speed-up model, in steps of plain decoding."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import accumulate

from taskspec.decoding.belief import Belief
from taskspec.decoding.cost import AcceptanceCurve, TargetCost, best_length
from taskspec.decoding.records import DraftChoice


@dataclass(frozen=True, eq=False)
class Way:
    """A way to draft that an answer may use, equal only to itself.

    Attributes:
        choice: The draft, at the longest length that it may draft.
        curve: The acceptance that is promised, up to that length.
        seconds: Per drafted token, or attempt at one.
        watched: It is scored on text that others drafted, without drafting for the target.
        movable: It may take over in the middle of an answer. Drafts that read the target's states
            cannot: those of earlier positions are not kept.
        members: Drafters that it drafts with.
    """

    choice: DraftChoice
    curve: AcceptanceCurve
    seconds: float
    watched: bool = False
    movable: bool = True
    members: frozenset[str] = frozenset()

    @property
    def longest(self) -> int:
        """The longest draft length."""
        return min(self.choice.draft_length, len(self.curve.block_efficiency))


@dataclass(frozen=True)
class Prices:
    """Costs in steps of plain decoding, each the time of v(1) + o.

    Attributes:
        passes: Target passes; longer ones are taken to cost as much a token as the longest.
        overhead: o, relative to a pass over one token.
        rows: Rows that share a pass, taken to draft alike.
    """

    passes: TargetCost
    overhead: float
    rows: int = 1

    def step(self, way: Way, drafted: int, attempts: int) -> float:
        """A step that drafts so many tokens; never less where more are drafted."""
        return self._target(1 + drafted) + attempts * self._draft(way)

    def reading(self, way: Way, tokens: int) -> float:
        """What a draft takes to read so many tokens, as its passes widen like the target's."""
        return self._draft(way) * self._ratio(tokens) if tokens else 0.0

    def _draft(self, way: Way) -> float:
        # A draft's own passes widen with its rows as the target's do.
        return way.seconds / self._rising[0] * self._ratio(self.rows) / self._plain

    def _target(self, tokens: int) -> float:
        return (self._ratio(tokens * self.rows) + self._overhead) / self._plain

    @property
    def _plain(self) -> float:
        """A step of plain decoding, in passes over one token."""
        return self._ratio(self.rows) + self._overhead

    @cached_property
    def _overhead(self) -> float:
        return self.overhead * self.passes.seconds[0] / self._rising[0]

    def _ratio(self, tokens: int) -> float:
        """Cost of a pass over so many tokens, nowhere falling."""
        rising = self._rising
        most = len(rising)
        return rising[min(tokens, most) - 1] / rising[0] * max(1.0, tokens / most)

    @cached_property
    def _rising(self) -> tuple[float, ...]:
        """Seconds of passes over 1, 2, ... tokens, nowhere falling.

        A longer pass that was timed faster than a shorter one is noise in either of them.
        """
        seconds = self.passes.seconds
        above = accumulate(seconds, max)
        below = list(accumulate(reversed(seconds), min))[::-1]
        return tuple((high + low) / 2 for high, low in zip(above, below, strict=True))


@lru_cache(maxsize=256)
def step_costs(prices: Prices, way: Way) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Costs of steps that drafted 0 to K tokens: fewer than asked for, and exactly as many."""
    lengths = range(way.longest + 1)
    return (
        tuple(prices.step(way, drafted, drafted + 1) for drafted in lengths),
        tuple(prices.step(way, drafted, drafted) for drafted in lengths),
    )


_REMEMBERED = 0.98
"""What is still held true of a draft a token later: texts change."""
_PATIENCE = 8
"""Tokens after which forgetting is caught up with."""
_TELLING = 8
"""Steps of other answers from which on they say something of the next one."""


class Estimate:
    """What a way to draft brings, in one answer or in many: its promise, moved by what was seen.

    Args:
        way: The draft.
        promise: The acceptance that is expected at first.
        prices: What it costs.
        remembered: What is still held true of it a token later.

    Attributes:
        seen: Steps that it was seen at, as far as they still count.
    """

    def __init__(
        self,
        way: Way,
        promise: AcceptanceCurve,
        prices: Prices,
        remembered: float = _REMEMBERED,
    ) -> None:
        self._costs = step_costs(prices, way)
        self._belief = Belief(promise, way.longest)
        self._best: tuple[int, float] | None = None
        self._passed = 0
        self._remembered = remembered
        self._moved = False
        self.seen = 0.0

    def renewed(self) -> Estimate:
        """What to expect in another answer, where this one was learnt from many."""
        other = copy.copy(self)
        other._belief, other._best, other._passed = self._belief.renewed(), None, 0
        other._remembered, other._moved = _REMEMBERED, False
        other.seen = self.seen if self.seen >= _TELLING else 0.0
        return other

    def learn(self, asked: int, drafted: int, accepted: int) -> None:
        """Take in a step that was asked for `asked` tokens, and that nothing cut."""
        self.seen, self._best, self._moved = self.seen + 1, None, True
        self._belief.learn(asked, drafted, accepted)

    def pass_by(self, tokens: int) -> None:
        """So many tokens were emitted: the more, the less what was seen says of what comes."""
        self._passed += tokens
        if self._passed < _PATIENCE:
            return
        # As long as nothing was learnt there is nothing to forget.
        if self._moved:
            share = self._remembered**self._passed
            self._belief.fade(share)
            self.seen *= share
            self._best = None
        self._passed = 0

    def best(self) -> tuple[int, float]:
        """The length that saves most, or a shorter one as good, and its saving.

        The saving is in plain steps per emitted token. A draft that was seen to save next to
        nothing has a length of 0 and saves nothing; one that was not seen may be taken to lose.
        """
        if self._best is None:
            rates = self._rates()
            length = best_length({0: 1.0} | rates if self.seen else rates)
            self._best = length, 1 - 1 / rates[length] if length else 0.0
        return self._best

    def _rates(self) -> dict[int, float]:
        """Tokens over cost at each length."""
        drafted, stood = self._belief.expected()
        short, full = self._costs
        rates, tau, ended, before = {}, 1.0, 0.0, 1.0
        for k, (reach, stand) in enumerate(zip(drafted, stood, strict=True), start=1):
            tau += stand
            ended += (before - reach) * short[k - 1]
            rates[k] = tau / (ended + reach * full[k])
            before = reach
        return rates
