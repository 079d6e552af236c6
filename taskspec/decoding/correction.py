"""In-flight correction: a draft that falls short of its promise is replaced while it serves.

Before a step a row may draft another length, plainly, or with another draft of the pool, from what
it has emitted, so that the answer's distribution stays the target's. What a step costs comes from
the speed-up model and not from a clock: the same request takes the same course again.

Two rules decide. A hedge over plain decoding and the drafts follows what each would save per token
(Freund and Schapire 1997, with the full-information feedback that a verified text gives on drafts
that were not used, as in Not-a-Bandit, Liu et al. 2025). What each would save is estimated from
what was promised and from what the answer shows: of the draft in use on its own steps, of drafts
that copy, where the promise is not kept, on the text that others drafted. Others are taken to do as
promised until they are tried, but no better than the assignment's draft promised. Above it stands a
budget that holds whatever the text is.

With experience, an answer begins from what earlier ones showed, and with the draft that did best in
them; the same request may then take another course, by noise of its own (`own_noise`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from taskspec.decoding.cost import AcceptanceCurve
from taskspec.decoding.experience import Experience
from taskspec.decoding.hedging import Hedge
from taskspec.decoding.prices import Estimate, Prices, Way
from taskspec.decoding.records import DraftChoice
from taskspec.decoding.row import Row
from taskspec.decoding.watching import Watch
from taskspec.interfaces import Drafter

_TRUST = 0.95
_PLAIN = 0
_CLEARLY = 0.01
"""Another draft must save so much more of plain decoding's time to begin in the own one's place."""
_WELL_KNOWN = 48
"""Steps, as far as they still count, after which a draft is not watched out of curiosity."""


@dataclass(frozen=True)
class Correction:
    """What correcting needs to know of the machine, the pool and the user's wish.

    The predicted cost of an answer's steps, counted in steps of plain decoding, never exceeds
    `(1 + share) * tokens + grace`, at no step and for no text. The target's passes over the prompt
    are left out, a draft's are counted.

    Attributes:
        prices: Costs here.
        ways: Drafts to choose from.
        share: Part of plain decoding's time that may be lost.
        grace: Plain steps that may be lost besides, so that a draft can be tried at all.
        experience: Of earlier answers, from which the next ones begin; None begins each from what
            was promised.
    """

    prices: Prices
    ways: tuple[Way, ...]
    share: float
    grace: float
    experience: Experience | None = None

    def pilot(self, row: Row, drafters: Mapping[str, Drafter]) -> Pilot | None:
        """Who steers a row; None when the draft that it asks for has no known price."""
        own = next((w for w in self.ways if _same(w.choice, row.choice)), None)
        if row.choice is not None and own is None:
            return None
        taken = set() if own is None else {own.choice.draft, *own.members}
        # A drafter serves a row once: those that the row's draft drafts with are not free.
        free = [w for w in self.ways if w.choice.draft not in taken and not w.members]
        alike = [w for w in self.ways if own and w.choice.draft == own.choice.draft and w != own]
        others = [w for w in (*free, *alike) if w.movable]
        return Pilot(self, row, drafters, ([] if own is None else [own]) + others)


class Pilot:
    """Steers one row.

    Args:
        correction: Prices, share and grace.
        row: The row.
        drafters: The pool.
        ways: How it may draft; the first one is the row's own if it has one.
    """

    def __init__(
        self,
        correction: Correction,
        row: Row,
        drafters: Mapping[str, Drafter],
        ways: Sequence[Way],
    ) -> None:
        self.correction, self.row, self.drafters = correction, row, drafters
        self.ways = tuple(ways)
        self.current: Way | None = None
        if row.choice is not None:
            self.current = self.ways[0]
            row.choice = self.current.choice
        self.lasting: dict[Way, Estimate] = {}
        self.estimates = {way: self._estimate(way) for way in self.ways}
        first = self._first()
        self.hedge = _trusting(first, 1 + len(self.ways), self._seed())
        self.promise = self.estimates[self.ways[first - 1]].best()[1] if first else 0.0
        # Of the assigned draft, before any answer: the most to expect of others that nobody saw.
        self._most = self.promise
        if self.lasting:
            own = self.current and Estimate(self.current, self.current.curve, correction.prices)
            self._most = own.best()[1] if own else 0.0
        self._begins_elsewhere = self.current is not None and first != 1
        shared = Counter(way.choice.draft for way in self.ways)
        self.watches = {
            way: Watch(row, way, drafters)
            for way in self.ways
            # One that may serve the row in another way, too, cannot also watch it.
            if way.watched and shared[way.choice.draft] == 1
        }
        self._turns = list(self.watches)
        # Where promises are kept, one draft watches all the same, while it is known too little.
        known = {way: self.lasting[way].seen for way in self._turns if way in self.lasting}
        little = [way for way, seen in known.items() if seen < _WELL_KNOWN]
        self._curious = sorted(little, key=lambda way: known[way])[:1]
        self._pause, self._slack = (4, _CLEARLY) if self.lasting else (2, 0.0)
        self.spent, self.earned = 0.0, 0
        self._asked = 0
        self._behind = 0
        self._refused: Way | None = None

    def steer(self) -> None:
        """Choose the draft and how far it drafts in the coming step."""
        self._watch()
        way, asked = self._decide()
        extra, length = self._affordable(way, asked)
        self._refused = way if asked and not length else None
        if self._refused is not None and way != self.current:
            way = self.current
            extra, length = self._affordable(way, self._length(way))
        if way is None or not length:
            self._rest()
            return
        if way != self.current:
            self._move(way)
        self.spent += extra
        self.row.reach, self._asked, self._behind = length, length, 0

    def learn(self) -> None:
        """Take in the step that was just done."""
        step, prices = self.row.steps[-1], self.correction.prices
        cost, way = 1.0, self.current
        for estimate in (*self.estimates.values(), *self.lasting.values()):
            estimate.pass_by(step.emitted)
        if self._asked and way is not None:
            cost = prices.step(way, step.drafted, min(step.drafted + 1, self._asked))
            if step.emitted == step.accepted + 1:
                self._note(way, self._asked, step.drafted, step.accepted)
        else:
            self._behind += step.emitted
        self.spent += cost
        self.earned += step.emitted
        savings = [0.0, *map(self._expected, self.ways)]
        if self._refused is not None:
            # What the budget does not let draft saves nothing.
            savings[1 + self.ways.index(self._refused)] = 0.0
        self.hedge.update(savings, step.emitted)

    def stop(self) -> None:
        """Let drafts that only watch forget the row."""
        for watch in self.watches.values():
            watch.stop()

    def _estimate(self, way: Way) -> Estimate:
        """What to expect of a way in this answer, from earlier ones where they are known."""
        experience, prices = self.correction.experience, self.correction.prices
        promise = self._promised(way)
        if experience is None:
            return Estimate(way, promise, prices)
        self.lasting[way] = experience.estimate(self.current, way, promise, prices)
        return self.lasting[way].renewed()

    def _seed(self) -> str:
        """Of the hedge's draws: others in every answer where these learn from one another."""
        seed, experience = f"correction {self.row.request.seed}", self.correction.experience
        if experience is None:
            return seed
        experience.answers += 1
        return f"{seed} {experience.answers}"

    def _first(self) -> int:
        """The way to begin with: the row's own, or one that did better in earlier answers."""
        own, least = 0, 0.0
        if self.current is not None:
            own, least = 1, self.estimates[self.current].best()[1]
        savings = {
            arm: self.estimates[way].best()[1]
            for arm, way in enumerate(self.ways, start=1)
            if self.estimates[way].seen and way.movable
        }
        best = max(savings, key=lambda arm: savings[arm], default=own)
        return best if savings.get(best, 0.0) > least + _CLEARLY else own

    def _note(self, way: Way, asked: int, drafted: int, accepted: int) -> None:
        """Take in what a way did, or would have done."""
        self.estimates[way].learn(asked, drafted, accepted)
        if way in self.lasting:
            self.lasting[way].learn(asked, drafted, accepted)

    def _decide(self) -> tuple[Way | None, int]:
        """The way that the hedge draws, and its best length; None for plain decoding."""
        arm = self.hedge.draw()
        if arm == _PLAIN:
            return None, 0
        way = self.ways[arm - 1]
        if way != self.current and not way.movable:
            # Once left, a draft that reads the target's states cannot come back.
            return None, 0
        return way, self._length(way)

    def _length(self, way: Way | None) -> int:
        """The best length of a way, as far as the answer has room."""
        if way is None:
            return 0
        return min(self.estimates[way].best()[0], max(0, self.row.room - 1))

    def _affordable(self, way: Way | None, length: int) -> tuple[float, int]:
        """What drafting takes beside the step itself, and the length that the budget allows."""
        if way is None or not length:
            return 0.0, 0
        extra, prices = self._reading(way), self.correction.prices
        while length and not self._affords(extra + prices.step(way, length, length)):
            length -= 1
        return extra, length

    def _promised(self, way: Way) -> AcceptanceCurve:
        """What to expect of a way before it is seen.

        The assignment was measured to be the best: others promise no more, whatever they brought
        to tasks of their own.
        """
        return way.curve if self.current is None else way.curve.within(self.current.curve)

    def _expected(self, way: Way) -> float:
        """Saving per token of a way."""
        estimate = self.estimates[way]
        saving = estimate.best()[1]
        seen = estimate.seen or (way in self.lasting and self.lasting[way].seen)
        return saving if seen or way == self.current else min(saving, self._most)

    def _affords(self, cost: float) -> bool:
        """Whether a step of that cost keeps the budget though it emit a single token."""
        earned = (1 + self.correction.share) * (self.earned + 1) + self.correction.grace
        return self.spent + cost <= earned

    def _reading(self, way: Way) -> float:
        """What a way's draft has to read before it can draft, beyond its usual share."""
        prices = self.correction.prices
        if way == self.current and self.row.drafting:
            return max(0.0, prices.reading(way, 1 + self._behind) - prices.reading(way, 1))
        if way in self.watches and self.watches[way].started:
            return 0.0
        return prices.reading(way, len(self.row.text))

    def _rest(self) -> None:
        """Decode plainly; a draft that copies watches meanwhile."""
        self.row.reach = self._asked = 0
        if self.current in self.watches:
            if self.row.drafting:
                self.watches[self.current].take_back()
            self.row.choice, self.row.drafting, self.current = None, False, None

    def _move(self, way: Way) -> None:
        """Replace the row's draft; one that watched is up to date, another reads all anew."""
        row = self.row
        if self.current in self.watches and row.drafting:
            self.watches[self.current].take_back()
        else:
            row.stop(self.drafters)
        row.choice, row.drafting = way.choice, True
        if way in self.watches and self.watches[way].started:
            self.watches[way].hand_over()
        else:
            row.start(self.drafters)
        self.current = way

    def _watch(self) -> None:
        """Score drafts that copy on the text; one of them proposes again, if that is affordable.

        They do so where the assignment's promise is not kept, and take turns at every other step,
        with experience at every fourth, so that watching stays a small part of a step.
        """
        for way, watch in self.watches.items():
            outcome = None if way == self.current else watch.outcome()
            if outcome is not None:
                self._note(way, watch.length, *outcome)
        if len(self.row.steps) % self._pause or (self._begins_elsewhere and not self.earned):
            return
        turns = self._curious if self._kept() else self._turns
        for way in turns:
            watch = self.watches[way]
            if way == self.current or watch.waiting:
                continue
            price = self._watching(way)
            if self._affords(1 + price):
                watch.propose()
                self.spent += price
                turns.remove(way)
                turns.append(way)
                return

    def _kept(self) -> bool:
        """Whether the row drafts, or is yet to, and saves as much as was promised."""
        if self.current is None or not (self._asked or not self.earned):
            return False
        return self.promise > 0 and self._expected(self.current) >= self.promise - self._slack

    def _watching(self, way: Way) -> float:
        """What a proposal of a draft that watches takes."""
        prices = self.correction.prices
        price = prices.step(way, 0, self.watches[way].length) - 1
        if not self.watches[way].started:
            price += prices.reading(way, len(self.row.text))
        return price


def _trusting(first: int, arms: int, seed: str) -> Hedge:
    """A hedge that trusts one of its ways."""
    rest = (1 - _TRUST) / max(1, arms - 1)
    prior = [_TRUST if arm == first else rest for arm in range(arms)] if arms > 1 else [1.0]
    return Hedge(prior, seed, first)


def _same(one: DraftChoice, other: DraftChoice | None) -> bool:
    return other is not None and (one.draft, one.adapter) == (other.draft, other.adapter)
