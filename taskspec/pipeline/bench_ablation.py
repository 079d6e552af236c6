"""What each part of a recipe brings: its variants' routers on the same prompts, interleaved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from taskspec.evaluation.comparison import Comparison
from taskspec.pipeline.artifacts import read_done
from taskspec.pipeline.assign import load_assignment
from taskspec.pipeline.comparing import TIMINGS, compare_beside, kept, made_by, prompt_hash
from taskspec.pipeline.context import RunContext
from taskspec.pipeline.entries import all_entries, engine_for
from taskspec.pipeline.environment import describe_evaluation
from taskspec.pipeline.held_out import held_out_prompts
from taskspec.pipeline.routes import run_router
from taskspec.pipeline.timing import PLAIN, Way, always, routed, time_ways
from taskspec.pipeline.variants import FULL, Variant
from taskspec.serving.pool import DraftEntry, load_pool, with_members
from taskspec.serving.routing import Assignment, PromptRouter


class CommonPool:
    """The drafts of several runs, under names that tell them apart; equal ones are one.

    Args:
        first: The run whose folders stand for those that other runs made alike.
    """

    def __init__(self, first: RunContext) -> None:
        self.first = first
        self.entries: dict[str, DraftEntry] = {}

    def add(self, variant: str, context: RunContext, entries: Sequence[DraftEntry]) -> list[str]:
        """Take drafts in, those that others draft with before these; their names here."""
        names: dict[str, str] = {}
        for entry in sorted(entries, key=lambda entry: bool(entry.members)):
            own = replace(
                entry,
                folder=self._original(context, entry.folder),
                adapter=None if entry.adapter is None else self._original(context, entry.adapter),
                members=tuple(names[member] for member in entry.members),
            )
            if self.entries.get(own.name) not in (None, own):
                own = replace(own, name=f"{own.name}@{variant}")
            self.entries[own.name] = own
            names[entry.name] = own.name
        return [names[entry.name] for entry in entries]

    def _original(self, context: RunContext, path: Path) -> Path:
        """The path in the first run, where that run's stage is the same."""
        for name, folder in context.stage_folders.items():
            if path.is_relative_to(folder):
                own, other = read_done(folder), read_done(self.first.stage_folders[name])
                if own is not None and other is not None and own.result == other.result:
                    return self.first.stage_folders[name] / path.relative_to(folder)
        return path


def router_of(variant: Variant, pool: CommonPool) -> PromptRouter:
    """A variant's router, its drafts taken into the pool and named as there."""
    context = variant.context
    assigned = load_assignment(context.stage_folders["assign"])
    router = run_router(context, assigned)
    used = [a.draft for a in (*router.assignments, router.fallback) if a.draft is not None]
    entries = with_members(dict.fromkeys(used), all_entries(context, len(assigned.tasks)))
    added = pool.add(variant.name, context, entries)
    names = {entry.name: name for entry, name in zip(entries, added, strict=True)}

    def renamed(each: Assignment) -> Assignment:
        return replace(each, draft=None if each.draft is None else names[each.draft])

    return replace(
        router,
        assignments=[renamed(each) for each in router.assignments],
        fallback=renamed(router.fallback),
    )


def bench_ablation(
    variants: Sequence[Variant], console: Console, folder: Path | None = None
) -> Comparison:
    """Time every variant on the held-out prompts, one prompt at a time, in rotated order.

    Drafts of all variants serve in one engine; speed-ups are over plain decoding, and beside the
    whole recipe.

    Args:
        variants: The whole recipe first.
        console: Where progress is shown.
        folder: Keeps results, and timings to go on from; None keeps nothing.
    """
    context = variants[0].context
    recipe, registry = context.recipe, context.registry
    common = CommonPool(context)
    routers = {variant.name: router_of(variant, common) for variant in variants}
    prompts = held_out_prompts(context, routers[FULL])
    environment = {
        **describe_evaluation(recipe, registry),
        "fingerprint": context.target.fingerprint,
    }
    notes = [f"{each.name}: {' '.join(each.changes)}" for each in variants if each.changes]

    def measure(work: Path) -> Comparison:
        pool = load_pool(list(common.entries.values()), registry, context.target)
        ways: dict[str, Way] = {PLAIN: always(None)}
        ways |= {name: routed(router, pool) for name, router in routers.items()}
        engine = engine_for(context, pool)
        timings = time_ways(console, work / TIMINGS, engine, ways, prompts, recipe.evaluate.repeats)
        methods, resamples = [PLAIN, *routers], recipe.evaluate.resamples
        return compare_beside(timings, prompts, methods, FULL, resamples, notes, environment)

    made = {name: _identity(router) for name, router in routers.items()}
    folders = {each.name: made_by(each.context.stage_folders) for each in variants}
    return kept(folder, [environment, prompt_hash(prompts), notes, made, folders], measure)


def _identity(router: PromptRouter) -> list[str]:
    return [str([*router.assignments, router.fallback]), str(router.threshold)]
