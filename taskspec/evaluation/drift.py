"""Whether answers keep what a bundle's assignments promised, and whether new tasks appear."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from taskspec.evaluation.statistics import Interval
from taskspec.serving.answer_log import LoggedAnswer
from taskspec.serving.known import KnownPrompts
from taskspec.serving.routing import Assignment

_ERROR = 0.05
_LEAST_ANSWERS = 8
"""Answers without which nothing is said of a task's draft."""


@dataclass(frozen=True)
class TaskWatch:
    """How one assignment did.

    Attributes:
        task: The task, or `fallback`.
        draft: Its draft; None for plain decoding.
        answers: Answers that it decoded.
        unknown: Share of them whose prompts lie beyond known ones; None where that was not
            measured.
        promised: How often the first drafted token stood on the task's validation prompts.
        acceptance: How often it stood in the answers, with its 95 % interval; None without passes
            that drafted.
        lost: What acceptance lost to the promise, as an interval that is simultaneous over all
            tasks; both sides' prompts are a sample. None with too few answers.
        per_pass: Tokens emitted per pass of the target.
        replaced: Share of passes that in-flight correction took from the draft.
    """

    task: str
    draft: str | None
    answers: int
    unknown: float | None
    promised: float | None
    acceptance: Interval | None
    lost: Interval | None
    per_pass: float | None
    replaced: float | None

    @property
    def drifted(self) -> bool:
        """Whether the draft surely does worse than it promised."""
        return self.lost is not None and self.lost.low > 0


@dataclass(frozen=True)
class Watch:
    """What a log shows.

    Attributes:
        tasks: One per assignment of the bundle, the fallback last.
        answers: Answers looked at.
        measured: Those of them whose distance was measured.
        unknown: Those of them that lie beyond known prompts.
        expected: Share that would lie there if prompts were as at first; None where the bundle
            measures no distances.
        chance: Probability of at least so many, then; None likewise.
        new_task: Whether there are enough to make a task of, and surely more than expected.
    """

    tasks: tuple[TaskWatch, ...]
    answers: int
    measured: int
    unknown: int
    expected: float | None
    chance: float | None
    new_task: bool


@dataclass(frozen=True)
class _Rate:
    """Successes over tries, from answers whose passes are not independent of one another."""

    value: float
    variance: float
    freedom: float

    def interval(self, error: float) -> Interval:
        margin = float(stats.t.ppf(1 - error / 2, self.freedom)) * math.sqrt(self.variance)
        return Interval(self.value, max(0.0, self.value - margin), min(1.0, self.value + margin))


def watch(
    tasks: Sequence[Assignment],
    fallback: Assignment,
    known: KnownPrompts | None,
    temperature: float,
    log: Sequence[LoggedAnswer],
    least: int = 20,
) -> Watch:
    """Hold a log against a bundle.

    Args:
        tasks: The bundle's assignments.
        fallback: What decodes prompts that the router leaves; it has promised nothing for them.
        known: How far from the tasks known prompts lie; None where that is not known.
        temperature: That of the recipe; answers sampled otherwise say nothing of acceptance.
        log: The answers.
        least: Unknown prompts without which no new task is reported.
    """
    count = max(1, len(tasks))
    unpromised = replace(fallback, curve=None, trials=())
    found = tuple(
        _watch_task(each, [a for a in log if a.assigned == each.task], temperature, count)
        for each in (*tasks, unpromised)
    )
    measured = [each for each in log if each.unknown is not None]
    unknown = sum(bool(each.unknown) for each in measured)
    expected = chance = None
    if known is not None:
        # The limit is a rank among validation prompts, so that the share beyond it is not known
        # but has a Beta distribution, whatever that of distances is.
        beyond, within = known.beyond + 1, known.validation - known.beyond
        expected = beyond / (beyond + within)
        chance = float(stats.betabinom.sf(unknown - 1, len(measured), beyond, within))
    new_task = chance is not None and unknown >= least and chance < _ERROR / 5
    return Watch(found, len(log), len(measured), unknown, expected, chance, new_task)


def _watch_task(
    assignment: Assignment, own: Sequence[LoggedAnswer], temperature: float, count: int
) -> TaskWatch:
    draft = assignment.draft if assignment.draft_length else None
    measured = [each for each in own if each.unknown is not None]
    usual = [each for each in own if (each.draft, each.temperature) == (draft, temperature)]
    passes = sum(each.passes for each in usual)
    rate, promise = _rate([(e.tries, e.stood) for e in usual]), _rate(assignment.trials)
    enough = sum(each.tries > 0 for each in usual) >= _LEAST_ANSWERS
    lost = None
    if rate is not None and promise is not None and enough:
        lost = _difference(promise, rate, _ERROR / count)
    promised = None if promise is None else promise.value
    if promised is None and draft is not None and assignment.curve is not None:
        # A bundle that keeps no prompts' figures still keeps their mean: tau at length 1 is 1 + u.
        promised = assignment.curve.block_efficiency[0] - 1
    return TaskWatch(
        task=assignment.task,
        draft=draft,
        answers=len(own),
        unknown=None if not measured else float(np.mean([bool(e.unknown) for e in measured])),
        promised=promised,
        acceptance=None if rate is None else rate.interval(_ERROR),
        lost=lost,
        per_pass=sum(each.tokens - 1 for each in usual) / passes if passes else None,
        replaced=sum(each.replaced for each in usual) / passes if passes else None,
    )


def _rate(pairs: Sequence[tuple[int, int]]) -> _Rate | None:
    """The ratio of sums of (tries, successes) with its variance between answers.

    Linearised (Cochran 1977, section 2.11), and never less than if passes were independent. None
    with fewer than two answers that tried.
    """
    kept = np.array([pair for pair in pairs if pair[0]], dtype=np.float64).reshape(-1, 2)
    if len(kept) < 2:
        return None
    tries, stood = kept.T
    total, size = tries.sum(), len(kept)
    value = float(stood.sum() / total)
    between = float(((stood - value * tries) ** 2).sum()) * size / (size - 1) / total**2
    # With one success and one failure more than seen, so that it is never nothing.
    share = (stood.sum() + 1) / (total + 2)
    return _Rate(value, max(between, float(share * (1 - share) / (total + 2))), size - 1)


def _difference(first: _Rate, second: _Rate, error: float) -> Interval:
    """First minus second, by Welch's t interval."""
    variance = first.variance + second.variance
    freedom = variance**2 / sum(each.variance**2 / each.freedom for each in (first, second))
    margin = float(stats.t.ppf(1 - error / 2, freedom)) * math.sqrt(variance)
    value = first.value - second.value
    return Interval(value, value - margin, value + margin)
