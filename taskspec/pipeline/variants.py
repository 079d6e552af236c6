"""A recipe with one part switched off at a time, each as a run of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from taskspec.errors import TaskSpecError
from taskspec.pipeline.alignment_jobs import SINGLE
from taskspec.pipeline.assign import load_assignment
from taskspec.pipeline.context import RunContext
from taskspec.pipeline.entries import pool_name
from taskspec.pipeline.run import stages
from taskspec.pipeline.runner import run_stages
from taskspec.recipe.loading import LoadedRecipe, load_recipe
from taskspec.recipe.schema import Recipe
from taskspec.registry import Registry

FULL = "full"
_LAST = "route"


@dataclass(frozen=True)
class Variant:
    """A run with one part switched off.

    Attributes:
        name: The variant's; its run is called `<recipe's name>-<name>`.
        changes: Overrides of the recipe.
        context: The run, finished up to its router.
    """

    name: str
    changes: tuple[str, ...]
    context: RunContext


def _no_assignment(full: RunContext) -> tuple[str, ...]:
    """The same draft of the pool, each task's own version of it, at the same length for every task.

    The one that was aligned on all tasks' prompts, at that one's length, or where nothing trains
    the fallback's.
    """
    assigned = load_assignment(full.stage_folders["assign"])
    every = assigned.baselines.get(SINGLE, assigned.fallback)
    draft = next(iter(full.recipe.draft.pool)) if every.draft is None else pool_name(every.draft)
    length = every.draft_length or full.recipe.assign.draft_lengths[0]
    return (
        f"assign.drafts=[{draft}]",
        f"assign.draft_lengths=[{length}]",
        "assign.margin=0",
        # A search would have dropped it for some tasks.
        "align.search.rounds=1",
        # Labels by speed would choose among the tasks' drafts after all.
        "route.labels=task",
    )


# Shuffled tasks cannot be learnt from prompts: a router of them would abstain.
_CHANGES: dict[str, Callable[[RunContext], tuple[str, ...]]] = {
    "no-routing": lambda _: ("route.labels=task", "route.threshold=1"),
    "no-alignment": lambda _: ("align.enabled=false",),
    "no-assignment": _no_assignment,
    "random-clusters": lambda _: (
        "partition.shuffled=true",
        "route.labels=task",
        "route.threshold=0",
    ),
    # Where ways are nearly as fast, no label is likely: a fixed threshold may leave all to the
    # fallback.
    "label-by-speed": lambda _: ("route.labels=speed", "route.threshold=auto"),
    "label-by-task": lambda _: ("route.labels=task",),
}


def variant_names(recipe: Recipe, asked: Sequence[str]) -> list[str]:
    """The variants asked for, or else all that are not the recipe itself.

    Raises:
        TaskSpecError: When there is no such variant; names those there are.
    """
    for name in asked:
        if name not in _CHANGES:
            known = ", ".join(_CHANGES)
            raise TaskSpecError(f"there is no variant '{name}'; there are: {known}")
    same = f"label-by-{recipe.route.labels}"
    return list(dict.fromkeys(asked)) or [name for name in _CHANGES if name != same]


def run_variants(
    loaded: LoadedRecipe,
    overrides: Sequence[str],
    names: Sequence[str],
    registry: Registry,
    console: Console,
) -> list[Variant]:
    """Run the recipe as it is and with each part switched off, up to the router.

    A stage that the recipe's own run, or the first variant, has made alike is taken over.

    Args:
        loaded: The recipe, with the user's changes.
        overrides: Those changes.
        names: Variants; the whole recipe comes first in any case.
        registry: The plugins.
        console: Where progress is shown.

    Raises:
        TaskSpecError: As a run does.
    """
    runs, name = Path(loaded.recipe.runs), loaded.recipe.name
    others = [runs / name, runs / f"{name}-{FULL}"]

    def run(variant: str, changes: Sequence[str]) -> Variant:
        said = escape(" ".join(changes))
        console.print(f"\n[bold]{variant}[/bold] {said}", highlight=False)
        settings = [*overrides, *changes, f"name={name}-{variant}"]
        own = load_recipe(loaded.source, settings, registry)
        every = stages(own.recipe.extends)
        count = [stage.name for stage in every].index(_LAST) + 1
        context = run_stages(every[:count], own, registry, console, others)
        # A context without the target that this one may have loaded.
        return Variant(variant, tuple(changes), replace(context))

    found = [run(FULL, ())]
    for each in names:
        found.append(run(each, _CHANGES[each](found[0].context)))
    return found
