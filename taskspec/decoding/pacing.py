"""Draft lengths for rows that share a pass.

One row's drafted tokens are nearly free to verify while the pass waits for memory. Many rows'
tokens together keep the arithmetic busy, and then each has to earn its place. What a batch should
draft depends on costs and on acceptance, as it was measured and as the steps so far showed it. It
is decided before anything is drafted, so no answer's distribution changes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from taskspec.decoding.cost import AcceptanceCurve, TargetCost, best_length
from taskspec.decoding.evidence import Evidence
from taskspec.decoding.records import DraftChoice, StepRecord

_SWEEPS = 4
_PROMISE_WEIGHT = 32.0
"""Steps that the promise counts for."""
_STEPS = 16
"""Steps after which lengths are chosen anew."""
_REMEMBERED = 0.75
"""What then counts of what was seen: later texts may be other ones."""
_WORTH = 1.03
"""Promise over drafting nothing that is worth a start: drafts read the texts first."""
_Group = tuple[DraftChoice | None, int]


@dataclass(frozen=True)
class DraftPace:
    """What one draft brings and takes.

    Attributes:
        curve: Its acceptance.
        seconds: Per drafted token of one row.
    """

    curve: AcceptanceCurve
    seconds: float


@dataclass
class Pace:
    """Chooses draft lengths for the rows of a batch: tokens over seconds of the whole step.

    Attributes:
        passes: Target passes, up to the most tokens that a step may have; longer ones are taken
            to cost as much a token as the longest.
        overhead: o, relative to a pass over one token.
        drafts: What is known of each way to draft; a way that is missing drafts as far as asked.
    """

    passes: TargetCost
    overhead: float
    drafts: Mapping[DraftChoice, DraftPace]
    _chosen: dict[tuple[_Group, ...], Mapping[DraftChoice | None, int]] = field(
        default_factory=dict, repr=False, compare=False
    )
    _evidence: dict[DraftChoice, Evidence] = field(default_factory=dict, repr=False, compare=False)
    _steps: int = field(default=0, repr=False, compare=False)

    def fresh(self) -> Pace:
        """One that knows the promises alone."""
        return Pace(self.passes, self.overhead, self.drafts)

    def lengths(self, choices: Sequence[DraftChoice | None]) -> list[int]:
        """How far each row should draft now, at most as far as it asks.

        Args:
            choices: One per row; None decodes plainly.
        """
        key = tuple(sorted(Counter(choices).items(), key=repr))
        if key not in self._chosen:
            self._chosen[key] = self._choose(key)
        return [self._chosen[key][choice] for choice in choices]

    def learn(
        self,
        choices: Sequence[DraftChoice | None],
        asked: Sequence[int],
        steps: Sequence[StepRecord],
    ) -> None:
        """Take in what a step of all rows brought.

        Args:
            choices: One per row.
            asked: Tokens that each row's draft was asked for.
            steps: What came of it.
        """
        for choice, count, step in zip(choices, asked, steps, strict=True):
            if choice is None or choice not in self.drafts or not count:
                continue
            if step.emitted == step.accepted + 1:
                self._known(choice).learn(count, step.drafted, step.accepted)
        self._steps += 1
        if self._steps % _STEPS == 0:
            self._chosen.clear()
            for evidence in self._evidence.values():
                evidence.fade(_REMEMBERED)

    def _known(self, choice: DraftChoice) -> Evidence:
        if choice not in self._evidence:
            curve = self.drafts[choice].curve
            longest = len(curve.block_efficiency)
            self._evidence[choice] = Evidence(curve, longest, _PROMISE_WEIGHT)
        return self._evidence[choice]

    def rate(self, groups: Sequence[_Group], lengths: Mapping[DraftChoice | None, int]) -> float:
        """Tokens per second that a step promises.

        Args:
            groups: Rows of each way to draft.
            lengths: Draft length of each way.
        """
        tokens, wide, drafting = 0.0, 0.0, 0.0
        for choice, rows in groups:
            k = lengths[choice]
            if choice is None or choice not in self.drafts or not k:
                tokens, wide = tokens + rows, wide + rows * (1 + k)
                continue
            known, curve = self.drafts[choice], self._known(choice).curve
            tokens += rows * curve.block_efficiency[k - 1]
            wide += rows * (1 + curve.mean_drafted(k))
            # A draft's own passes widen with its rows as the target's do.
            drafting += curve.mean_attempts(k) * known.seconds * self._ratio(rows)
        step = (self._ratio(wide) + self.overhead) * self.passes.seconds[0]
        return tokens / (step + drafting)

    def _choose(self, groups: Sequence[_Group]) -> Mapping[DraftChoice | None, int]:
        """The best of what is reached from full lengths, from none, and of not drafting at all."""
        asked = {choice: choice.draft_length if choice else 0 for choice, _ in groups}
        none = {choice: 0 if choice in self.drafts else k for choice, k in asked.items()}
        found = [self._climb(groups, none), self._climb(groups, asked)]
        best = max(found, key=lambda lengths: self.rate(groups, lengths))
        return best if self.rate(groups, best) > _WORTH * self.rate(groups, none) else none

    def _climb(
        self, groups: Sequence[_Group], start: Mapping[DraftChoice | None, int]
    ) -> Mapping[DraftChoice | None, int]:
        """Give each way in turn the length that is best beside the others'."""
        lengths = dict(start)
        for _ in range(_SWEEPS):
            before = dict(lengths)
            for choice, _rows in groups:
                if choice is not None and choice in self.drafts:
                    reach = min(
                        choice.draft_length, len(self.drafts[choice].curve.block_efficiency)
                    )
                    lengths[choice] = best_length(
                        {k: self.rate(groups, {**lengths, choice: k}) for k in range(reach + 1)}
                    )
            if lengths == before:
                break
        return lengths

    def _ratio(self, tokens: float) -> float:
        """Cost of a pass over so many tokens, an average: counts between lie on a line."""
        most = len(self.passes.seconds)
        if tokens >= most:
            return self.passes.verify_ratio(most) * tokens / most
        low = int(tokens)
        ratio, share = self.passes.verify_ratio(low), tokens - low
        if share > 0:
            ratio += share * (self.passes.verify_ratio(low + 1) - ratio)
        return ratio
