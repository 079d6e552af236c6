"""Stages of a run that extends another: its tasks, drafts and assignments stay as they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from taskspec.corpus.answers import StoredAnswer
from taskspec.decoding.records import Request
from taskspec.pipeline.align import Align
from taskspec.pipeline.alignment_jobs import Job, task_key
from taskspec.pipeline.answering import load_answers
from taskspec.pipeline.artifacts import read_json, write_json
from taskspec.pipeline.assign import (
    ASSIGNMENT,
    Assign,
    Costs,
    assignment_of,
    consider,
    describe,
    load_assignment,
    load_costs,
)
from taskspec.pipeline.choosing import within_memory
from taskspec.pipeline.collect import Collect
from taskspec.pipeline.context import RunContext
from taskspec.pipeline.draft import Draft
from taskspec.pipeline.draft_bench import DraftBench
from taskspec.pipeline.kept import copy_kept, kept_results, kept_run
from taskspec.pipeline.partition import load_tasks
from taskspec.pipeline.runner import SUMMARY


class ExtendedCollect(Collect):
    """Takes over answers and free text; the target answers new prompts only."""

    def settings(self, context: RunContext) -> Any:
        """Those of the stage, and what is taken over."""
        return {**super().settings(context), "extends": kept_results(context, self.name)}

    def known(
        self, context: RunContext, folder: Path, name: str, requests: Sequence[Request]
    ) -> list[StoredAnswer]:
        """All that the extended run has, and what an earlier extension asked for."""
        run = kept_run(context)

        def wanted(file: str) -> bool:
            return file.startswith(f"{name}-") and file.endswith(".safetensors")

        copy_kept(run, self.name, folder, wanted)
        kept = load_answers(run.stages[self.name], name)
        others = [request for request in requests if request.id not in kept]
        return [*kept.values(), *super().known(context, folder, name, others)]


class ExtendedDraft(Draft):
    """Takes over the pool as it was before any task."""

    def settings(self, context: RunContext) -> Any:
        """Those of the stage, and what is taken over."""
        return {**super().settings(context), "extends": kept_results(context, self.name)}

    def run(self, context: RunContext, folder: Path) -> str:
        """Copy one folder per draft of the pool."""
        _copy_drafts(context, self.name, folder)
        return super().run(context, folder)


class ExtendedAlign(Align):
    """Takes over aligned drafts; new tasks' go on from where the other tasks' did."""

    def settings(self, context: RunContext) -> Any:
        """Those of the stage, and what is taken over."""
        return {**super().settings(context), "extends": kept_results(context, self.name)}

    def run(self, context: RunContext, folder: Path) -> str:
        """Copy the drafts there are, and align the pool to the new tasks."""
        _copy_drafts(context, self.name, folder)
        return super().run(context, folder)

    def plan(self, context: RunContext, folder: Path) -> tuple[list[Job], list[Job]]:
        """The jobs of new tasks; those on all tasks' prompts are done."""
        first, then = super().plan(context, folder)
        folders = kept_run(context).stages["partition"], context.stage_folders["partition"]
        before, now = (len(load_tasks(each).names) for each in folders)
        keys = {task_key(label) for label in range(before, now)}
        return first, [job for job in then if job.key in keys]


def _copy_drafts(context: RunContext, stage: str, folder: Path) -> None:
    if context.writes:
        copy_kept(kept_run(context), stage, folder, lambda name: name != SUMMARY)


class ExtendedAssign(Assign):
    """Keeps assignments, baselines and fallback; measures and chooses for the new tasks alone."""

    def settings(self, context: RunContext) -> Any:
        """Those of the stage, and what is kept."""
        return {**super().settings(context), "extends": kept_results(context, self.name)}

    def run(self, context: RunContext, folder: Path) -> str:
        """Write `assignment.json`: what was, and the choice for new tasks with its evidence.

        With `assign.max_memory`, new drafts have the room that the kept ones leave.
        """
        run = kept_run(context)
        kept = load_assignment(run.stages[self.name])
        before = read_json(run.file(self.name, ASSIGNMENT))
        names = load_tasks(context.stage_folders["partition"]).names
        bench = DraftBench(context)
        labels = range(len(kept.tasks), len(names))
        considered = consider(context, bench, labels)
        used = {each.draft for each in (*kept.tasks, kept.fallback) if each.draft is not None}
        loaded = {part: size for name in used for part, size in bench.parts(name).items()}
        added = {
            name: {part: size for part, size in bench.parts(name).items() if part not in loaded}
            for name in bench.entries
        }
        most = context.recipe.assign.max_memory
        room = None if most is None else max(0.0, most - sum(loaded.values()))
        best, _ = within_memory(bench.comparisons, bench.timed, added, None, room)
        chosen = [
            assignment_of(bench, label, names[label], draft, candidates)
            for label, draft, candidates in zip(labels, best, considered, strict=True)
        ]
        write_json(
            folder / ASSIGNMENT,
            {
                **before,
                "tasks": [*before["tasks"], *map(asdict, chosen)],
                "evidence": [
                    *before["evidence"],
                    *([asdict(each) for each in own] for own in considered),
                ],
                **merged_costs(load_costs(run.stages[self.name]), bench),
            },
        )
        return f"{len(kept.tasks)} kept; {'; '.join(map(describe, chosen))}"


def merged_costs(before: Costs, bench: DraftBench) -> dict[str, Any]:
    """Costs as they are now; what was measured then alone keeps its ratio to a target pass."""
    now, then = bench.cost.seconds, before.target.seconds
    slower = now[0] / then[0]
    kept = {name: seconds * slower for name, seconds in before.draft_seconds.items()}
    return {
        "target_pass_seconds": [*now, *(each * slower for each in then[len(now) :])],
        "overhead": bench.overhead,
        "draft_seconds": {**kept, **bench.draft_seconds},
    }
