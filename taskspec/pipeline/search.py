"""Which drafts are worth training to the end: successive halving, task by task."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from taskspec.errors import ArtifactError
from taskspec.pipeline.alignment_jobs import COST, WEIGHTS, Job, bring_up, task_key
from taskspec.pipeline.artifacts import digest, read_done, read_json, results_of, write_json
from taskspec.pipeline.context import RunContext
from taskspec.pipeline.draft import Draft
from taskspec.pipeline.draft_bench import DraftBench
from taskspec.pipeline.entries import Made, draft_members, entries_of, pool_name
from taskspec.pipeline.halving import Promise, round_ends, verdicts
from taskspec.pipeline.partition import load_tasks
from taskspec.pipeline.search_record import (
    AT_HAND,
    SEARCH,
    TRAINED,
    Round,
    SearchRecord,
    Trial,
    read_round,
    to_json,
)
from taskspec.pipeline.together import do_together
from taskspec.serving.pool import DraftEntry
from taskspec.training.earlier import Earlier

_ROUND = "round.json"


@dataclass(frozen=True)
class _Cost:
    """What one training took."""

    tokens: int
    seconds: float


class Search:
    """Trains the drafts of every task in rounds, and drops some of them after each.

    A round's drafts are measured like those of the assignment, beside those that need no
    training. Only a task that has a choice left takes part; what is left of the others is
    trained to the end at once. Everything a round decides is written with what it rests on, so
    that a search that was killed goes on and decides nothing twice.

    Args:
        context: The run.
        folder: The align stage's working folder, with the drafts for all tasks and those built
            from the corpus.
        jobs: Every trainable draft on every task, as if trained to the end.
        settings: The stage's, for fingerprints of pieces.
    """

    def __init__(
        self, context: RunContext, folder: Path, jobs: Sequence[Job], settings: Any
    ) -> None:
        self.context, self.folder, self.settings = context, folder, settings
        self.names = load_tasks(context.stage_folders["partition"]).names
        self.jobs: dict[int, list[Job]] = {
            label: [job for job in jobs if job.key == task_key(label)]
            for label in range(len(self.names))
        }
        exhaustive = sum(job.tokens for job in jobs)
        self.record = SearchRecord(exhaustive, ())
        self._had: dict[str, Earlier] = {}

    def run(self) -> list[str]:
        """Do all rounds; `search.json` is written at the end.

        Returns:
            A line on the search, and those of the drafts that were trained to the end.
        """
        ends = round_ends(self.context.recipe.align.search)
        for number, end in enumerate(ends[:-1], start=1):
            undecided = [label for label in self.jobs if len(self._alive(label)) > 1]
            if undecided:
                self._round(number, end, undecided)
        lines, trials = [], []
        for label in self.jobs:
            for job in self._alive(label):
                last = self._rest(job, 1.0)
                lines += bring_up(self.context, self.folder, last, self.settings)
                if self.context.writes:
                    cost = _cost_of(self.folder / job.name)
                    trials.append(Trial(label, job.draft, TRAINED, cost.tokens, cost.seconds))
        self._add(Round(tuple(trials)))
        if self.context.writes:
            write_json(self.folder / SEARCH, to_json(self.record))
        return [self._line(), *lines]

    def tidy(self) -> None:
        """Remove the weights of rounds, once nothing goes on from them; curves are kept."""
        if self.context.writes:
            for place in self.folder.glob("*@*.round-*"):
                shutil.rmtree(place / "draft", ignore_errors=True)
                (place / WEIGHTS).unlink(missing_ok=True)

    def _alive(self, label: int) -> list[Job]:
        dropped = self.record.dropped(label)
        return [job for job in self.jobs[label] if job.draft not in dropped]

    def _rest(self, job: Job, end: float) -> Job:
        """The part of a job from where its draft stands to a share of its tokens."""
        earlier = self._had.get(job.name)
        before = 0 if earlier is None else earlier.tokens
        return replace(job, tokens=max(1, round(end * job.tokens) - before), earlier=earlier)

    def _round(self, number: int, end: float, labels: Sequence[int]) -> None:
        part = f"round-{number}"
        measured = self.folder / f"measured.{part}"
        jobs = {
            label: [replace(self._rest(job, end), part=part) for job in self._alive(label)]
            for label in labels
        }
        everyone = [job for own in jobs.values() for job in own]
        # What a finished search no longer needs is removed, so a round that is decided stays so.
        if not measured.exists():
            for job in everyone:
                bring_up(self.context, self.folder, job, self.settings)
            made = results_of(self.folder / job.folder for job in everyone)
            pool = Draft().settings(self.context)["pool"]
            identity = digest([self.settings, pool, number, *made])
            do_together(self.context, measured, identity, lambda work: self._measure(work, jobs))
        try:
            found, done = read_round(read_json(measured / _ROUND)), read_done(measured)
        except ArtifactError:
            if self.context.writes or self.folder.exists():
                raise
            return  # The process that leads has nothing left to do together.
        self._add(replace(found, measuring=0.0 if done is None else done.seconds))
        for job in everyone:
            before = 0 if job.earlier is None else job.earlier.tokens
            weights = self.folder / job.folder / WEIGHTS
            self._had[job.name] = Earlier(before + job.tokens, weights)

    def _add(self, found: Round) -> None:
        self.record = replace(self.record, rounds=(*self.record.rounds, found))

    def _measure(self, work: Path, jobs: Mapping[int, Sequence[Job]]) -> str:
        """Measure a round's drafts and decide which go on; `round.json` says it all."""
        if not self.context.writes:
            return ""
        part = next(job.part for own in jobs.values() for job in own)
        made = Made(self.folder, part)
        entries = {
            label: entries_of(self.context, label, made, self.record.dropped(label))
            for label in jobs
        }
        bench = DraftBench(self.context, {e.name: e for own in entries.values() for e in own})
        trials = [
            trial
            for label, own in jobs.items()
            for trial in self._trials(bench, label, entries[label], own)
        ]
        write_json(work / _ROUND, asdict(Round(tuple(trials))))
        return f"measured {len(trials)} drafts"

    def _trials(
        self, bench: DraftBench, label: int, entries: Sequence[DraftEntry], jobs: Sequence[Job]
    ) -> Iterator[Trial]:
        """One task's drafts: how they did, and what becomes of those that train."""
        measured = {pool_name(e.name): bench.best_length(e.name, [label]) for e in entries}
        predicted = {n: 0.0 if c is None else c.predicted for n, c in measured.items()}
        ceilings = {pool_name(e.name): bench.ceiling(e.name) for e in entries}
        partners = {
            job.draft: [n for n in measured if job.draft in draft_members(self.context, n)]
            for job in jobs
        }
        # A draft serves the task through those that draft with it, too; how good those may get
        # is not known.
        promises = {
            draft: Promise(
                max(predicted[name] for name in (draft, *others)),
                float("inf") if others else ceilings[draft],
            )
            for draft, others in partners.items()
        }
        incumbent = max(bench.plain, *predicted.values())
        found = verdicts(promises, incumbent, self.context.recipe.align.search.keep)
        costs = {job.draft: _cost_of(self.folder / job.folder) for job in jobs}
        for name, candidate in measured.items():
            cost = costs.get(name, _Cost(0, 0.0))
            yield Trial(
                label,
                name,
                found.get(name, AT_HAND),
                cost.tokens,
                cost.seconds,
                None if candidate is None else candidate.draft_length,
                None if candidate is None else candidate.block_efficiency,
                None if candidate is None else candidate.predicted,
                ceilings[name],
            )

    def _line(self) -> str:
        """What came of it, and what it cost."""
        record = self.record
        outcomes = []
        for label, name in enumerate(self.names):
            kept = ", ".join(job.draft for job in self._alive(label)) or "none that trains"
            gone = record.dropped(label)
            left = ", ".join(f"{draft} after round {number}" for draft, number in gone.items())
            outcomes.append(f"{name} keeps {kept}" + (f" (dropped {left})" if left else ""))
        return (
            f"search over {len({job.draft for own in self.jobs.values() for job in own})} drafts: "
            f"{', '.join(outcomes)}; {record.tokens:,} tokens in {record.seconds:.0f} s and "
            f"{record.measuring:.0f} s of measuring, where training all to the end takes "
            f"{record.exhaustive:,} tokens"
        )


def _cost_of(piece: Path) -> _Cost:
    """What the training of a finished piece took."""
    done = read_done(piece)
    return _Cost(read_json(piece / COST)["tokens"], 0.0 if done is None else done.seconds)
