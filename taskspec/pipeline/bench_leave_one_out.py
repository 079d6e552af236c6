"""What prompts of a task get from a bundle that was made without it."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from taskspec.decoding.experience import Experience
from taskspec.decoding.records import Request
from taskspec.errors import CorpusError
from taskspec.evaluation.comparison import Comparison
from taskspec.evaluation.matrix import Timing
from taskspec.interfaces import Sampling
from taskspec.pipeline.collect import load_examples
from taskspec.pipeline.comparing import compare_beside, kept
from taskspec.pipeline.environment import describe_evaluation
from taskspec.pipeline.held_out import HeldOut
from taskspec.pipeline.left_out import LeftOut
from taskspec.pipeline.timing import (
    PLAIN,
    ROUTED,
    Remembering,
    Way,
    always,
    routed,
    time_ways,
)
from taskspec.recipe.loading import LoadedRecipe
from taskspec.recipe.schema import Recipe
from taskspec.registry import Registry
from taskspec.serving.bundle import Bundle, load_bundle
from taskspec.serving.correcting import measure_correction
from taskspec.serving.pool import Pool, load_pool, with_members
from taskspec.serving.remembering import answer_memory

CORRECTED, EXPERIENCED = "routed, corrected", "routed, experienced"
QUARANTINED = "routed, quarantined"
REMEMBERED, BOTH = "routed, remembered", "routed, both"
_KEPT = 100_000
_TYPICAL = 32


def bench_leave_one_out(
    loaded: LoadedRecipe,
    runs: Sequence[LeftOut],
    registry: Registry,
    console: Console,
    folder: Path | None = None,
) -> Comparison:
    """Answer each left-out task's held-out prompts with its run's bundle, one at a time, in turn.

    Args:
        loaded: The recipe; its `evaluate` section says how many prompts, how long, how often.
        runs: A run without each task.
        registry: The plugins.
        console: Where progress is shown.
        folder: Keeps results, and timings to go on from; None keeps nothing.

    Raises:
        CorpusError: When a task has no held-out prompt.
    """
    recipe = loaded.recipe
    environment = describe_evaluation(recipe, registry)

    def measure(work: Path) -> Comparison:
        timings: list[Timing] = []
        prompts: list[HeldOut] = []
        notes: list[str] = []
        for run in runs:
            bundle = load_bundle(run.bundle, registry)
            own = _prompts(run, bundle, recipe)
            notes.append(_note(run.task, own))
            journal = work / f"timings-{run.bundle.parent.name}.jsonl"
            timings += _time(bundle, own, journal, recipe, registry, console)
            prompts += own
        tasks = [run.task for run in runs]
        methods, missing = _common(timings, {p.request.id: p.row for p in prompts}, tasks)
        notes += [
            *missing,
            "ways that learn know the task's prompts before each one, none at first; intervals "
            "take prompts as independent all the same",
        ]
        resamples = recipe.evaluate.resamples
        return compare_beside(timings, prompts, methods, ROUTED, resamples, notes, environment)

    made = [[run.task, run.results] for run in runs]
    methods = [CORRECTED, EXPERIENCED, QUARANTINED, REMEMBERED, BOTH]
    return kept(folder, [environment, made, methods], measure)


def _prompts(run: LeftOut, bundle: Bundle, recipe: Recipe) -> list[HeldOut]:
    """The task's held-out prompts, a seeded draw without copies, each with its route.

    Raises:
        CorpusError: When there are none.
    """
    examples = load_examples(run.collected)
    held = {e.messages: e for e in examples if (e.task, e.split) == (run.task, "test")}
    members = list(held.values())
    if not members:
        raise CorpusError(
            f"no prompt of the task '{run.task}' is held out; give some the split `test`"
        )
    config = recipe.evaluate
    count = min(config.prompts_per_task, len(members))
    found: list[HeldOut] = []
    for example in random.Random(recipe.seed).sample(members, count):
        request, route = bundle.request(
            example.id, example.messages, config.max_new_tokens, seed=recipe.seed + len(found)
        )
        found.append(HeldOut(replace(request, draft=None), example, run.task, route))
    return found


def _common(
    timings: Sequence[Timing], rows: Mapping[str, str], tasks: Sequence[str]
) -> tuple[list[str], list[str]]:
    """The methods that every task was answered with, and which others were left out for what."""
    had: dict[str, set[str]] = {}
    for each in timings:
        had.setdefault(each.method, set()).add(rows[each.prompt])
    notes = [
        f"{method} is left out: not measured on {', '.join(t for t in tasks if t not in own)}"
        for method, own in had.items()
        if len(own) < len(tasks)
    ]
    return [method for method, own in had.items() if len(own) == len(tasks)], notes


def _note(task: str, prompts: Sequence[HeldOut]) -> str:
    if any(each.route.distance is None for each in prompts):
        return f"{task}: how far its prompts lie from the other tasks' was not measured"
    unknown = sum(each.route.unknown for each in prompts)
    return f"{task}: {unknown} of {len(prompts)} prompts lie beyond those of the other tasks"


def _time(
    bundle: Bundle,
    prompts: Sequence[HeldOut],
    journal: Path,
    recipe: Recipe,
    registry: Registry,
    console: Console,
) -> list[Timing]:
    """Every prompt in every way, in rotated order; goes on where it was stopped."""
    way = routed(bundle.router, bundle.pool)
    correction = measure_correction(bundle, _typical(prompts))
    ways: dict[str, Way] = {PLAIN: always(None), ROUTED: way, CORRECTED: way, EXPERIENCED: way}
    if bundle.router.known is not None:
        ways[QUARANTINED] = routed(replace(bundle.router, quarantine=True), bundle.pool)
    remembering: dict[str, Remembering] = {}
    for name in (REMEMBERED, BOTH):
        own = _remembering(bundle, registry)
        if own is not None:
            ways[name], remembering[name] = way, own
    corrections = {CORRECTED: replace(correction, experience=None)}
    for name in (EXPERIENCED, BOTH):
        corrections[name] = replace(correction, experience=Experience())
    return time_ways(
        console,
        journal,
        bundle.engine,
        ways,
        prompts,
        recipe.evaluate.repeats,
        corrections=corrections,
        remembering=remembering,
    )


def _remembering(bundle: Bundle, registry: Registry) -> Remembering | None:
    """Drafters of its own that remember; None where none of the bundle's does."""
    drafters, entries = bundle.pool.drafters, bundle.pool.entries
    learning = [
        name
        for name, entry in entries.items()
        if any(drafters[entries[part].key].remembers for part in (name, *entry.members))
    ]
    keys = {entry.key for entry in with_members(learning, entries)}
    # All entries of a drafter, with their adapters, not only the one that learns.
    again = [entry for entry in bundle.manifest.drafts if entry.key in keys]
    own = load_pool(again, registry, bundle.target)
    pool = Pool({**drafters, **own.drafters}, entries)
    twin = replace(bundle, pool=pool, engine=bundle.engine.beside(pool.drafters))
    memory = answer_memory(twin, twin.manifest.decode.get("remember") or _KEPT)
    return None if memory is None else Remembering(twin.engine, memory)


def _typical(prompts: Sequence[HeldOut]) -> Request:
    request = min((each.request for each in prompts), key=lambda request: len(request.prompt))
    most = min(_TYPICAL, request.max_new_tokens)
    return replace(request, max_new_tokens=most, sampling=Sampling(), ignore_eos=True)
