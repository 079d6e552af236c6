"""What a search over drafts saves, and what it loses, beside training every draft to the end.

    python benchmarks/search.py search align.tokens=20000 --out search.json

Runs the recipe up to its assignment twice, as it is and with one round; both start from the same
answers, tasks and recovered drafts. The draft that each gave a task then decodes the task's
validation prompts, interleaved with the other and with plain decoding. Regret is 1 - S of the
search's draft over S of the other, with the 95 % interval of prompts drawn in pairs; where both
chose the same untrained draft it is 0. Prints Markdown.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from rich.console import Console

from taskspec.decoding.records import DraftChoice, Request
from taskspec.evaluation.statistics import Interval, Speeds, speedup_interval
from taskspec.pipeline.alignment_jobs import COST
from taskspec.pipeline.artifacts import read_done, read_json
from taskspec.pipeline.assign import load_assignment
from taskspec.pipeline.context import RunContext
from taskspec.pipeline.draft_bench import DraftBench
from taskspec.pipeline.entries import all_entries, pool_name
from taskspec.pipeline.run import stages
from taskspec.pipeline.runner import run_stages
from taskspec.pipeline.search_record import load_search
from taskspec.pipeline.speed import decode_timed
from taskspec.recipe.loading import load_recipe
from taskspec.registry import default_registry
from taskspec.serving.pool import DraftEntry, with_members
from taskspec.serving.routing import Assignment

SEARCH, EXHAUSTIVE, PLAIN = "search", "exhaustive", "plain"
SHARED_STAGES = ("collect", "encode", "partition", "draft")
RESAMPLES = 10_000


@dataclass(frozen=True)
class Cost:
    """What the tasks' alignments of a run took; what all drafts share beforehand is left out.

    Attributes:
        trainings: How many there were.
        tokens: Answer tokens trained on.
        seconds: Time of training.
        measuring: Time of measuring on the way.
    """

    trainings: int
    tokens: int
    seconds: float
    measuring: float


@dataclass(frozen=True)
class TaskRegret:
    """One task.

    Attributes:
        task: Its name.
        search: Draft that the search's run chose, with its length; None for plain decoding.
        exhaustive: The other's.
        search_speedup: Over plain decoding.
        exhaustive_speedup: Over plain decoding.
        regret: 1 - the search's speed over the other's.
    """

    task: str
    search: str | None
    exhaustive: str | None
    search_speedup: Interval
    exhaustive_speedup: Interval
    regret: Interval


def run(recipe: str, overrides: Sequence[str], kind: str, begun: RunContext | None) -> RunContext:
    """Run up to the assignment, from the pool of another run where there is one."""
    registry = default_registry()
    name = load_recipe(recipe, overrides, registry).recipe.name
    own = [f"name={name}-{kind}", *(["align.search.rounds=1"] if kind == EXHAUSTIVE else [])]
    loaded = load_recipe(recipe, [*overrides, *own], registry)
    folder = Path(loaded.recipe.runs) / loaded.recipe.name
    shared = {} if begun is None else begun.stage_folders
    for stage in SHARED_STAGES if shared else ():
        source = shared[stage]
        if not (folder / "stages" / source.name).exists():
            shutil.copytree(source, folder / "stages" / source.name)
    count = [stage.name for stage in stages()].index("assign") + 1
    return run_stages(stages()[:count], loaded, registry, Console())


def cost_of(context: RunContext) -> Cost:
    """What a run's trainings for tasks took."""
    folder = context.stage_folders["align"]
    record = load_search(folder)
    pieces = [path.parent for path in folder.glob(f"*@task-*/{COST}")]
    done = [each for piece in pieces if (each := read_done(piece)) is not None]
    return Cost(
        len(pieces),
        sum(read_json(piece / COST)["tokens"] for piece in pieces),
        sum(each.seconds for each in done),
        0.0 if record is None else record.measuring,
    )


def named_entries(context: RunContext, kind: str, tasks: int) -> dict[str, DraftEntry]:
    """A run's assigned drafts, under names that say which run they are of."""
    assigned = load_assignment(context.stage_folders["assign"]).tasks
    chosen = [each.draft for each in assigned if each.draft is not None]
    entries = with_members(chosen, all_entries(context, tasks))
    renamed = [
        replace(
            entry,
            name=f"{kind}:{entry.name}",
            members=tuple(f"{kind}:{member}" for member in entry.members),
        )
        for entry in entries
    ]
    return {entry.name: entry for entry in renamed}


def time_task(
    bench: DraftBench, label: int, choices: Mapping[str, DraftChoice | None], repeats: int
) -> dict[str, Speeds]:
    """Tokens and median seconds of each way to decode a task's prompts, in rotated order."""
    names = list(choices)
    tokens: dict[str, list[float]] = {name: [] for name in names}
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for index, request in enumerate(bench.prompts[label]):
        taken: dict[str, list[float]] = {name: [] for name in names}
        for repeat in range(repeats):
            turn = (index + repeat) % len(names)
            for name in names[turn:] + names[:turn]:
                asked: Request = replace(request, draft=choices[name])
                timed = decode_timed(bench.engine, partial(replace, asked))
                taken[name].append(timed.seconds)
                if not repeat:
                    tokens[name].append(len(timed.generation.tokens))
        for name in names:
            seconds[name].append(float(np.median(taken[name])))
    return {name: Speeds(np.array(tokens[name]), np.array(seconds[name])) for name in names}


def compare(runs: Mapping[str, RunContext], repeats: int) -> list[TaskRegret]:
    """Every task by both runs' choices, and all tasks together last."""
    assigned = {
        kind: load_assignment(context.stage_folders["assign"]).tasks
        for kind, context in runs.items()
    }
    count = len(assigned[SEARCH])
    entries: dict[str, DraftEntry] = {}
    for kind, context in runs.items():
        entries |= named_entries(context, kind, count)
    bench = DraftBench(runs[SEARCH], entries)
    measured, found = [], []
    for label in range(count):
        own = {kind: each[label] for kind, each in assigned.items()}
        choices = {PLAIN: None} | {kind: choice_of(bench, kind, a) for kind, a in own.items()}
        alike = same(own[SEARCH], own[EXHAUSTIVE])
        if alike:
            del choices[EXHAUSTIVE]
        timed = time_task(bench, label, choices, repeats)
        measured.append(timed | {EXHAUSTIVE: timed[SEARCH]} if alike else timed)
        names = own[SEARCH].task, describe(own[SEARCH]), describe(own[EXHAUSTIVE])
        found.append(regret(*names, [measured[-1]]))
    return [*found, regret("all", "", "", measured)]


def choice_of(bench: DraftBench, kind: str, assigned: Assignment) -> DraftChoice | None:
    """How an assignment is decoded; None for plainly."""
    if assigned.draft is None:
        return None
    return bench.pool.choice(f"{kind}:{assigned.draft}", assigned.draft_length)


def same(one: Assignment, other: Assignment) -> bool:
    """Whether both decode alike, with a draft that neither run trained or with none."""
    trained = one.draft is not None and pool_name(one.draft) != one.draft
    return not trained and describe(one) == describe(other)


def describe(assigned: Assignment) -> str | None:
    """A draft and its length."""
    return None if assigned.draft is None else f"{assigned.draft}, k={assigned.draft_length}"


def regret(
    task: str, first: str | None, second: str | None, measured: Sequence[Mapping[str, Speeds]]
) -> TaskRegret:
    """The speeds of one or several tasks beside each other."""
    tasks = [str(n) for n, each in enumerate(measured) for _ in each[PLAIN].tokens]
    joined = {
        kind: Speeds(
            np.concatenate([each[kind].tokens for each in measured]),
            np.concatenate([each[kind].seconds for each in measured]),
        )
        for kind in (PLAIN, SEARCH, EXHAUSTIVE)
    }

    def ratio(one: str, other: str) -> Interval:
        return speedup_interval(joined[one], joined[other], tasks, RESAMPLES)

    lost = ratio(SEARCH, EXHAUSTIVE)
    return TaskRegret(
        task,
        first,
        second,
        ratio(SEARCH, PLAIN),
        ratio(EXHAUSTIVE, PLAIN),
        Interval(1 - lost.value, 1 - lost.high, 1 - lost.low),
    )


def show(costs: Mapping[str, Cost], tasks: Sequence[TaskRegret]) -> None:
    """Print both tables."""
    print("\n| | trainings | answer tokens | training | measuring |\n|---|---|---|---|---|")
    for kind, cost in costs.items():
        spent = f"{cost.seconds:.0f} s | {cost.measuring:.0f} s"
        print(f"| {kind} | {cost.trainings} | {cost.tokens:,} | {spent} |")
    print("\n| task | search | S | exhaustive | S | regret |\n|---|---|---|---|---|---|")
    for each in tasks:
        first, second = each.search_speedup.value, each.exhaustive_speedup.value
        lost = f"{each.regret.value:.1%} ({each.regret.low:.1%} to {each.regret.high:.1%})"
        chosen = [PLAIN if name is None else name for name in (each.search, each.exhaustive)]
        print(f"| {each.task} | {chosen[0]} | {first:.2f} | {chosen[1]} | {second:.2f} | {lost} |")


def main() -> None:
    """Run, compare, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipe")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    exhaustive = run(arguments.recipe, arguments.overrides, EXHAUSTIVE, None)
    searched = run(arguments.recipe, arguments.overrides, SEARCH, exhaustive)
    runs = {SEARCH: searched, EXHAUSTIVE: exhaustive}
    costs = {kind: cost_of(context) for kind, context in runs.items()}
    tasks = compare(runs, arguments.repeats)
    show(costs, tasks)
    if arguments.out is not None:
        value = {
            "costs": {kind: asdict(cost) for kind, cost in costs.items()},
            "tasks": [asdict(each) for each in tasks],
        }
        arguments.out.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
