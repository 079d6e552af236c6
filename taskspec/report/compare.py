"""Two runs beside each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from taskspec.evaluation.table import ResultRow
from taskspec.report.facts import RunFacts

_NAMES = ("name", "runs")
"""Keys of a recipe that say where a run lies, not what it is."""


@dataclass(frozen=True)
class Speedup:
    """A speed-up over plain decoding, and what it stands on."""

    value: float
    low: float
    high: float
    block_efficiency: float | None

    @property
    def ends(self) -> tuple[float, float]:
        """Ends of the interval."""
        return self.low, self.high


@dataclass(frozen=True)
class SpeedupPair:
    """One row of the tables in both runs; None where a run has no such row."""

    method: str
    task: str
    first: Speedup | None
    second: Speedup | None

    @property
    def verdict(self) -> str:
        """What the intervals allow to say."""
        if self.first is None or self.second is None:
            return "in one run only"
        if self.second.low > self.first.high:
            return "faster in B"
        if self.second.high < self.first.low:
            return "slower in B"
        return "undecided"


@dataclass(frozen=True)
class Change:
    """Something that the two runs have differently; None where a run lacks it."""

    what: str
    first: str | None
    second: str | None


@dataclass(frozen=True)
class Comparison:
    """Run A beside run B.

    Attributes:
        first: Run A.
        second: Run B.
        recipe: Keys whose values differ.
        machine: Facts of the environment that differ.
        tasks: What was found and chosen, task by task; all of them.
        speedups: Every method over all prompts, then the routed one task by task.
        seconds: Stages, and how long each run worked on them.
    """

    first: RunFacts
    second: RunFacts
    recipe: tuple[Change, ...]
    machine: tuple[Change, ...]
    tasks: tuple[Change, ...]
    speedups: tuple[SpeedupPair, ...]
    seconds: tuple[tuple[str, float, float], ...]


def compare(first: RunFacts, second: RunFacts) -> Comparison:
    """Hold two runs against each other."""
    after = {stage.name: stage.seconds for stage in second.stages}
    return Comparison(
        first,
        second,
        recipe=_changes(first.settings, second.settings, _NAMES),
        machine=_changes(first.results.environment, second.results.environment),
        tasks=_tasks(first, second),
        speedups=tuple(_speedups(first, second)),
        seconds=tuple((stage.name, stage.seconds, after[stage.name]) for stage in first.stages),
    )


def _changes(
    first: Mapping[str, Any], second: Mapping[str, Any], without: tuple[str, ...] = ()
) -> tuple[Change, ...]:
    before, after = dict(_flat(first)), dict(_flat(second))
    return tuple(
        Change(key, before.get(key), after.get(key))
        for key in dict.fromkeys([*before, *after])
        if key not in without and before.get(key) != after.get(key)
    )


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", str(value)


def _tasks(first: RunFacts, second: RunFacts) -> tuple[Change, ...]:
    before, after = (
        {
            task.name: f"{task.training} prompts → "
            + ("plain decoding" if task.draft is None else f"{task.draft}, {task.draft_length}")
            for task in facts.tasks
        }
        for facts in (first, second)
    )
    names = dict.fromkeys([*before, *after])
    return tuple(Change(name, before.get(name), after.get(name)) for name in names)


def _speedups(first: RunFacts, second: RunFacts) -> Iterator[SpeedupPair]:
    rows = [
        {(row.method, row.task): row for row in facts.results.rows} for facts in (first, second)
    ]
    for method, task in dict.fromkeys([*rows[0], *rows[1]]):
        if task == "all" or method == "routed":
            own = (_speedup(each.get((method, task))) for each in rows)
            yield SpeedupPair(method, task, *own)


def _speedup(row: ResultRow | None) -> Speedup | None:
    if row is None:
        return None
    return Speedup(row.speedup, row.speedup_low, row.speedup_high, row.block_efficiency)
