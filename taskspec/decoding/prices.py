"""What steps cost and bring by the speed-up model, in steps of plain decoding."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

from taskspec.decoding.cost import AcceptanceCurve, TargetCost, best_length
from taskspec.decoding.evidence import Evidence
from taskspec.decoding.records import DraftChoice


@dataclass(frozen=True)
class Way:
    """A way to draft that an answer may use.

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

    def step(self, way: Way, drafted: float, attempts: float) -> float:
        """A step that drafts so many tokens; never less where more are drafted."""
        return self._target(1 + drafted) + attempts * self._draft(way)

    def reading(self, way: Way, tokens: int) -> float:
        """What a draft takes to read so many tokens, as its passes widen like the target's."""
        return self._draft(way) * self._ratio(tokens) if tokens else 0.0

    def _draft(self, way: Way) -> float:
        # A draft's own passes widen with its rows as the target's do.
        relative = way.seconds / self.passes.seconds[0] * self._ratio(self.rows)
        return relative / (self._ratio(self.rows) + self.overhead)

    def _target(self, tokens: float) -> float:
        step = self._ratio(tokens * self.rows) + self.overhead
        return step / (self._ratio(self.rows) + self.overhead)

    def _ratio(self, tokens: float) -> float:
        """Cost of a pass over so many tokens, between counts on a line, nowhere falling."""
        rising = self._rising
        if tokens > len(rising):
            return rising[-1] * tokens / len(rising)
        low = int(tokens)
        ratio = rising[low - 1]
        if tokens > low:
            ratio += (tokens - low) * (rising[low] - ratio)
        return ratio

    @cached_property
    def _rising(self) -> tuple[float, ...]:
        """Cost of a pass over 1, 2, ... tokens, nowhere falling."""
        return tuple(most / self.passes.seconds[0] for most in accumulate(self.passes.seconds, max))


class Estimate:
    """A draft's acceptance in one answer: what was promised, then more and more what was seen.

    Args:
        way: The draft, with its promise.
        prices: What it costs.
        weight: Steps that the promise counts for.
    """

    def __init__(self, way: Way, prices: Prices, weight: float) -> None:
        self.way, self.prices = way, prices
        self._evidence = Evidence(way.curve, way.longest, weight)
        self._best: tuple[int, float] | None = None
        self.seen = False

    def learn(self, asked: int, drafted: int, accepted: int) -> None:
        """Take in a step that was asked for `asked` tokens, and that nothing cut."""
        self.seen, self._best = self.seen or asked > 0, None
        self._evidence.learn(asked, drafted, accepted)

    def best(self) -> tuple[int, float]:
        """The length that saves most, or a shorter one as good, and its saving.

        The saving is in plain steps per emitted token, negative where drafting loses.
        """
        if self._best is None:
            curve = self._evidence.curve
            costs = {
                k: self.prices.step(self.way, curve.mean_drafted(k), curve.mean_attempts(k))
                for k in range(1, self.way.longest + 1)
            }
            length = best_length({k: curve.block_efficiency[k - 1] / c for k, c in costs.items()})
            self._best = length, 1 - costs[length] / curve.block_efficiency[length - 1]
        return self._best
