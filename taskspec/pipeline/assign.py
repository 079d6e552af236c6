"""Stage 6: each task gets the draft and draft length that make this target fastest on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from taskspec.decoding.cost import TargetCost
from taskspec.errors import ArtifactError
from taskspec.pipeline.alignment_jobs import SINGLE
from taskspec.pipeline.artifacts import read_json, write_json
from taskspec.pipeline.choosing import TimedDraft, within_memory
from taskspec.pipeline.context import RunContext, plain
from taskspec.pipeline.draft_bench import Candidate, DraftBench
from taskspec.pipeline.entries import all_entries, decode_settings
from taskspec.pipeline.partition import load_tasks
from taskspec.pipeline.progress import progress
from taskspec.pipeline.stage import Stage
from taskspec.serving.pool import DraftEntry, with_members
from taskspec.serving.routing import Assignment, read_assignment

ASSIGNMENT = "assignment.json"
_FORMAT = 4


@dataclass(frozen=True)
class Assigned:
    """The stage's result.

    Attributes:
        tasks: One assignment per task label.
        baselines: Draft and length of the benchmark's `vanilla`, `single` and `prompt-lookup`
            rows, each at the length that the cost model prefers over all tasks.
        fallback: What decodes prompts that the router abstains from.
        spares: Drafts that copy and take no memory, which in-flight correction may take up on any
            text.
    """

    tasks: tuple[Assignment, ...]
    baselines: Mapping[str, Assignment]
    fallback: Assignment
    spares: tuple[Assignment, ...] = ()


@dataclass(frozen=True)
class Costs:
    """What turns acceptance into seconds on the machine that drafts were assigned on.

    Attributes:
        target: Target passes over 1, 2, ... tokens, up to the longest draft length and one more.
        overhead: o, relative to a target pass over one token.
        draft_seconds: Seconds per drafted token, by the name of every draft that was considered.
    """

    target: TargetCost
    overhead: float
    draft_seconds: Mapping[str, float]


class Assign(Stage):
    """Measures every draft of the pool on every task's validation prompts and chooses.

    Acceptance is measured in batches with the longest draft length and read off at every
    shorter one; the cost model turns it into a promised speed-up. The best promises, when they
    are close and not clearly below plain decoding's, are then timed against plain decoding at
    batch 1, interleaved, in rotated order. The objective chooses among them; where the
    measurements leave it in doubt, the cheaper one wins, which is plain decoding when no draft's
    interval reaches the margin. Drafts made from all data compete for every task, so that tasks
    may share them.
    """

    name = "assign"
    needs = ("collect", "partition", "draft", "align")

    def settings(self, context: RunContext) -> Any:
        """Draft lengths, sample sizes, the verifier and sampling."""
        recipe = context.recipe
        return {
            "assign": plain(recipe.assign),
            "decode": decode_settings(context),
            "fallback": recipe.route.fallback,
            "threads": recipe.threads,
            "seed": recipe.seed,
            "format": _FORMAT,
        }

    def run(self, context: RunContext, folder: Path) -> str:
        """Write `assignment.json`: the choice and its evidence."""
        bench = DraftBench(context)
        tasks = load_tasks(context.stage_folders["partition"])
        considered = consider(context, bench, range(len(tasks.names)))
        baselines = bench.baselines()
        general = bench.general() if context.recipe.route.fallback == SINGLE else None
        best, kept = within_memory(
            bench.comparisons,
            bench.timed,
            {name: bench.parts(name) for name in bench.entries},
            None if general is None else general.draft,
            context.recipe.assign.max_memory,
        )
        chosen = [
            assignment_of(bench, label, name, draft, candidates)
            for (label, name), draft, candidates in zip(
                enumerate(tasks.names), best, considered, strict=True
            )
        ]
        fallback = Assignment("fallback", None, 0)
        if general is not None and kept is not None:
            fallback = general
        write_json(
            folder / ASSIGNMENT,
            {
                "format": _FORMAT,
                "tasks": [asdict(assignment) for assignment in chosen],
                "baselines": {name: asdict(each) for name, each in baselines.items()},
                "fallback": asdict(fallback),
                "spares": [asdict(each) for each in bench.spares()],
                "evidence": [[asdict(each) for each in own] for own in considered],
                "target_pass_seconds": bench.cost.seconds,
                "overhead": bench.overhead,
                "draft_seconds": bench.draft_seconds,
            },
        )
        notes = [
            f"too few validation prompts are of {chosen[label].task}; those of all were measured"
            for label in bench.borrowing
        ]
        return "; ".join([*(describe(assignment) for assignment in chosen), *notes])


def consider(
    context: RunContext, bench: DraftBench, labels: Sequence[int]
) -> list[list[Candidate]]:
    """Every draft considered for each of some tasks, measured."""
    considered: list[list[Candidate]] = []
    total = sum(len(bench.prompts[label]) for label in labels)
    with progress(context.console, "measuring drafts", total) as advance:
        for label in labels:
            considered.append(bench.candidates(label))
            advance(len(bench.prompts[label]))
    return considered


def assignment_of(
    bench: DraftBench,
    label: int,
    name: str,
    draft: TimedDraft | None,
    considered: Sequence[Candidate],
) -> Assignment:
    """The assignment of a task to the draft chosen for it; None is plain decoding."""
    if draft is None:
        return Assignment(name, None, 0)
    k = next(each.draft_length for each in considered if each.draft == draft.name)
    key = draft.name, label
    return Assignment(name, draft.name, k, bench.curves[key], bench.trials[key])


def describe(assignment: Assignment) -> str:
    """An assignment in a few words."""
    if assignment.draft is None:
        return f"{assignment.task} -> plain decoding"
    return f"{assignment.task} -> {assignment.draft}, k={assignment.draft_length}"


def load_assignment(folder: Path) -> Assigned:
    """The assignment, from the stage's folder.

    Raises:
        ArtifactError: When another version made it.
    """
    value = _read(folder)
    return Assigned(
        tuple(read_assignment(each) for each in value["tasks"]),
        {name: read_assignment(each) for name, each in value["baselines"].items()},
        read_assignment(value["fallback"]),
        tuple(read_assignment(each) for each in value["spares"]),
    )


def load_costs(folder: Path) -> Costs:
    """The costs, from the stage's folder.

    Raises:
        ArtifactError: When another version made it.
    """
    value = _read(folder)
    target = TargetCost(tuple(value["target_pass_seconds"]))
    return Costs(target, value["overhead"], value["draft_seconds"])


def _read(folder: Path) -> Any:
    value = read_json(folder / ASSIGNMENT)
    if value.get("format") != _FORMAT:
        raise ArtifactError(
            f"{folder / ASSIGNMENT} was made by another version of TaskSpec; run its recipe again"
        )
    return value


def pool_entries(context: RunContext, assigned: Assigned) -> list[DraftEntry]:
    """Every draft that an assignment or a baseline names, and those that they draft with."""
    known = all_entries(context, len(assigned.tasks))
    named = [*assigned.tasks, *assigned.baselines.values(), assigned.fallback]
    return with_members((each.draft for each in named if each.draft is not None), known)
