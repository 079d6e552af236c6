"""Every draft of the pool measured on every task's validation prompts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from taskspec.corpus.examples import Example
from taskspec.decoding.cost import (
    AcceptanceCurve,
    TargetCost,
    acceptance_curve,
    best_length,
    mean_curve,
    measure_draft,
    measure_target,
)
from taskspec.decoding.records import DraftChoice, Request, first_tokens
from taskspec.evaluation.dealing import deal
from taskspec.evaluation.statistics import Interval, Speeds
from taskspec.pipeline.answering import load_answers
from taskspec.pipeline.choosing import Comparison, TimedDraft
from taskspec.pipeline.context import RunContext
from taskspec.pipeline.entries import (
    all_entries,
    baseline_entries,
    engine_for,
    general_entries,
    measuring_requests,
    pool_name,
    task_entries,
)
from taskspec.pipeline.partition import load_tasks, validation_by_task
from taskspec.pipeline.speed import acceptance_steps, time_in_turn
from taskspec.serving.calibration import measure_overhead
from taskspec.serving.pool import DraftEntry, load_pool
from taskspec.serving.routing import Assignment


@dataclass(frozen=True)
class Candidate:
    """A draft that was considered for a task.

    Attributes:
        draft: Name of the draft.
        draft_length: The draft length with the best promise.
        block_efficiency: tau at that length on validation prompts.
        predicted: Speed-up over plain decoding that the cost model promises.
        memory: Megabytes that it takes as stored.
        measured: Speed-up measured on validation prompts, under the recipe's objective; None
            when its promise ruled it out.
    """

    draft: str
    draft_length: int
    block_efficiency: float
    predicted: float
    memory: float
    measured: Interval | None = None


class DraftBench:
    """Everything loaded for measuring: engine, pool, costs, validation prompts by task.

    Args:
        context: The run.
        entries: The drafts to measure, by name; None for all that aligned drafts can make.

    Attributes:
        borrowing: Tasks with fewer than two validation prompts, which others' speak for, too.
    """

    def __init__(
        self, context: RunContext, entries: Mapping[str, DraftEntry] | None = None
    ) -> None:
        self.context = context
        recipe = context.recipe
        tasks = load_tasks(context.stage_folders["partition"])
        self.longest = max(recipe.assign.draft_lengths)
        by_task = validation_by_task(context, tasks)
        self.borrowing = [label for label, own in by_task.items() if len(own) < _LEAST]
        self.prompts = self._validation_requests(by_task)
        entries = all_entries(context, len(tasks.names)) if entries is None else entries
        self.pool = load_pool(list(entries.values()), context.registry, context.target)
        self.engine = engine_for(context, self.pool)
        sample = self.prompts[0][0].prompt
        self.cost: TargetCost = measure_target(
            self.engine.model, sample, self.longest + 1, context.target.context_length
        )
        self.overhead = measure_overhead(self.engine, self.prompts[0][0], self.cost)
        self.curves: dict[tuple[str, int], AcceptanceCurve | None] = {}
        self.trials: dict[tuple[str, int], tuple[tuple[int, int], ...]] = {}
        self.draft_seconds: dict[str, float] = {}
        self.entries = entries
        self.comparisons: list[Comparison] = []
        self.timed: list[list[TimedDraft]] = []

    def _validation_requests(
        self, by_task: Mapping[int, Sequence[Example]]
    ) -> dict[int, list[Request]]:
        """Some validation prompts of every task; where it has one or none, of all tasks in turn.

        One alone bounds no speed-up.

        Never training prompts: a draft may have their very answers.
        """
        stored = load_answers(self.context.stage_folders["collect"], signal=False)
        count = self.context.recipe.assign.prompts_per_task
        mixed = deal(by_task.values())
        return {
            label: measuring_requests(
                self.context, stored, [e.id for e in (mixed if len(own) < _LEAST else own)[:count]]
            )
            for label, own in by_task.items()
        }

    def _curves(self, draft: str, labels: Sequence[int]) -> list[AcceptanceCurve]:
        """Acceptance of a draft on tasks' validation prompts, measured once, and its cost.

        All prompts are decoded together; tasks that no step of which was whole are left out.
        """
        missing = [label for label in labels if (draft, label) not in self.curves]
        if missing:
            choice = self.pool.choice(draft, self.longest)
            assert choice is not None
            requests = [request for label in missing for request in self.prompts[label]]
            batch = self.context.recipe.collect.batch_size
            steps = acceptance_steps(self.engine, requests, choice, self.longest, batch)
            drafter = self.pool.drafters[choice.draft]
            if draft not in self.draft_seconds:
                first = requests[0]
                self.draft_seconds[draft] = measure_draft(
                    drafter, choice, self.context.target, first.prompt, first.sampling
                )
            for label in missing:
                own = {request.id: steps[request.id] for request in self.prompts[label]}
                self.curves[draft, label] = acceptance_curve(own, self.longest)
                self.trials[draft, label] = tuple(first_tokens(each) for each in own.values())
        found = (self.curves[draft, label] for label in labels)
        return [each for each in found if each is not None]

    def best_length(self, draft: str, labels: Sequence[int]) -> Candidate | None:
        """The draft length that promises most for a draft over some tasks."""
        curves = self._curves(draft, labels)
        if not curves:
            return None
        seconds = self.draft_seconds[draft]

        def promise(k: int) -> float:
            # Time for a fixed number of tokens adds up, so speed-ups combine harmonically.
            times = [1 / curve.speedup(k, seconds, self.cost, self.overhead) for curve in curves]
            return len(times) / sum(times)

        promises = {k: promise(k) for k in self.context.recipe.assign.draft_lengths}
        k = best_length(promises)
        efficiency = len(curves) / sum(1 / curve.block_efficiency[k - 1] for curve in curves)
        return Candidate(draft, k, efficiency, promises[k], sum(self.parts(draft).values()))

    @property
    def plain(self) -> float:
        """What plain decoding promises: it has the overhead too."""
        return 1 / (1 + self.overhead)

    def ceiling(self, draft: str) -> float:
        """What a draft, measured before, would promise if everything it drafts were accepted."""
        seconds, lengths = self.draft_seconds[draft], range(1, self.longest + 1)
        always = (*[0.0] * self.longest, 1.0)
        perfect = AcceptanceCurve(tuple(k + 1.0 for k in lengths), always)
        considered = self.context.recipe.assign.draft_lengths
        return max(perfect.speedup(k, seconds, self.cost, self.overhead) for k in considered)

    def candidates(self, label: int) -> list[Candidate]:
        """All drafts considered for a task, the promising ones timed; asked task by task."""
        considered = [
            candidate
            for name in self._considered(label)
            if (candidate := self.best_length(name, [label])) is not None
        ]
        considered.sort(key=lambda candidate: -candidate.predicted)
        best = max((candidate.predicted for candidate in considered), default=0.0)
        # A margin below plain decoding's asks for drafts that do not pay, too.
        nearly = min(_NEARLY_PLAIN, self.context.recipe.assign.margin)
        least = max(nearly * self.plain, best / _CLEARLY_BETTER)
        promising = [candidate for candidate in considered if candidate.predicted >= least]
        speeds = self._measure(label, promising[:_TIMED_CANDIDATES])
        comparison = Comparison(speeds[None], self.context.recipe.assign)
        timed = [
            TimedDraft(each.draft, self._added_memory(each.draft), found)
            for each in considered
            if (found := speeds.get(each.draft)) is not None
        ]
        self.comparisons.append(comparison)
        self.timed.append(timed)
        measured = {each.name: comparison.speedup(each.speeds) for each in timed}
        return [
            replace(candidate, measured=measured.get(candidate.draft)) for candidate in considered
        ]

    def _considered(self, label: int) -> list[str]:
        """Names of the drafts that a task may get."""
        named = self.context.recipe.assign.drafts
        entries = task_entries(self.context, label)
        if named:
            return [entry.name for entry in entries if pool_name(entry.name) in named]
        entries += general_entries(self.context)
        return list(dict.fromkeys(entry.name for entry in entries))

    def parts(self, draft: str) -> dict[str, float]:
        """Megabytes as stored of what a draft loads, by folder, with the drafts it drafts with."""
        entry = self.entries[draft]
        folders = [folder for folder in (entry.folder, entry.adapter) if folder is not None]
        found = {str(folder): _megabytes(folder) for folder in folders}
        for member in entry.members:
            found |= self.parts(member)
        return found

    def _added_memory(self, draft: str) -> float:
        """Megabytes that a task adds by using a draft; what all tasks may share is divided."""
        # The draft aligned on all data is no task's own, and may serve all of them.
        tasks = len(self.prompts)
        return sum(size / self._users.get(name, tasks) for name, size in self.parts(draft).items())

    @cached_property
    def _users(self) -> Counter[str]:
        """How many tasks have drafts that load a folder."""
        users: Counter[str] = Counter()
        for label in self.prompts:
            own = (self.parts(each.name) for each in task_entries(self.context, label))
            users.update({folder for parts in own for folder in parts})
        return users

    def _measure(self, label: int, candidates: Sequence[Candidate]) -> dict[str | None, Speeds]:
        """Tokens and seconds of each draft and, as None, plain decoding, prompt by prompt."""
        ways = {None: partial(_drafted_by, None)} | {
            each.draft: partial(_drafted_by, self.pool.choice(each.draft, each.draft_length))
            for each in candidates
        }
        found = time_in_turn(self.engine, self.prompts[label], ways)
        return {
            key: Speeds(
                np.array([len(each.generation.tokens) for each in own], dtype=np.float64),
                np.array([each.seconds for each in own]),
            )
            for key, own in found.items()
        }

    def baselines(self) -> dict[str, Assignment]:
        """Draft and length of the benchmark rows that use one draft for everything."""
        found = {
            method: self._for_all(method, entry.name)
            for method, entry in baseline_entries(self.context).items()
        }
        return {method: each for method, each in found.items() if each is not None}

    def general(self) -> Assignment | None:
        """The draft made from all tasks' prompts that promises most over all of them."""
        labels, named = list(self.prompts), self.context.recipe.assign.drafts
        names = (each.name for each in general_entries(self.context))
        allowed = [name for name in names if not named or pool_name(name) in named]
        found = [self.best_length(name, labels) for name in allowed]
        promised = {each.draft: each.predicted for each in found if each is not None}
        if not promised:
            return None
        return self._for_all("fallback", max(promised, key=lambda draft: promised[draft]))

    def spares(self) -> list[Assignment]:
        """Drafts that copy and take no memory, with what they promise over all tasks."""
        named = self.context.recipe.assign.drafts
        free = (
            name
            for name, entry in self.entries.items()
            if self.pool.drafters[entry.key].copies
            and not entry.members
            and not sum(self.parts(name).values())
            and (not named or pool_name(name) in named)
        )
        return [each for name in free if (each := self._for_all("spare", name)) is not None]

    def _for_all(self, name: str, draft: str) -> Assignment | None:
        """A draft at the length that is best over all tasks; None where nothing shows it."""
        labels = list(self.prompts)
        best = self.best_length(draft, labels)
        if best is None:
            return None
        curve = mean_curve(self._curves(draft, labels))
        trials = [each for label in labels for each in self.trials[draft, label]]
        return Assignment(name, draft, best.draft_length, curve, tuple(trials))


_LEAST = 2
"""Validation prompts without which a task's own bound no speed-up."""
_TIMED_CANDIDATES = 3
_NEARLY_PLAIN = 0.95
_CLEARLY_BETTER = 1.3


def _drafted_by(choice: DraftChoice | None, request: Request) -> Request:
    return replace(request, draft=choice)


def _megabytes(folder: Path) -> float:
    if not folder.is_dir():
        return 0.0
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
