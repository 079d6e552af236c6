"""A whole run: all stages in order, then what the user wants to see."""

from __future__ import annotations

from rich.console import Console

from taskspec.evaluation.table import render
from taskspec.pipeline.align import Align
from taskspec.pipeline.assign import Assign
from taskspec.pipeline.bundle import Bundle
from taskspec.pipeline.collect import Collect
from taskspec.pipeline.context import RunContext
from taskspec.pipeline.draft import Draft
from taskspec.pipeline.encode import Encode
from taskspec.pipeline.evaluate import RESULTS, Evaluate, load_results
from taskspec.pipeline.extended import (
    ExtendedAlign,
    ExtendedAssign,
    ExtendedCollect,
    ExtendedDraft,
)
from taskspec.pipeline.extended_partition import ExtendedPartition
from taskspec.pipeline.partition import Partition
from taskspec.pipeline.report import write_report
from taskspec.pipeline.route import Route
from taskspec.pipeline.runner import follow_run, run_stages
from taskspec.pipeline.stage import Stage
from taskspec.recipe.loading import LoadedRecipe
from taskspec.registry import Registry


def stages(extends: str | None = None) -> tuple[Stage, ...]:
    """The stages, in the order of the data.

    Args:
        extends: The recipe's: some stages go on from that run's. Names and places are the same.
    """
    if extends is None:
        own: tuple[Stage, ...] = (Partition(), Draft(), Align(), Assign())
        return (Collect(), Encode(), *own, Route(), Evaluate(), Bundle())
    own = (ExtendedPartition(), ExtendedDraft(), ExtendedAlign(), ExtendedAssign())
    return (ExtendedCollect(), Encode(), *own, Route(), Evaluate(), Bundle())


def follow_recipe(loaded: LoadedRecipe, registry: Registry) -> None:
    """Take part in a run as one of the processes that do not lead it."""
    follow_run(stages(loaded.recipe.extends), loaded, registry)


def run_recipe(loaded: LoadedRecipe, registry: Registry, console: Console) -> RunContext:
    """Run a recipe's stages and write its report and show the table and what to do next."""
    context = run_stages(stages(loaded.recipe.extends), loaded, registry, console)
    results = load_results(context.stage_folders["evaluate"])
    bundle = context.stage_folders["bundle"]
    console.print()
    render(results, console)
    report = write_report(context.folder)
    for line in (
        "",
        f"results  {context.folder / RESULTS}",
        f"report   {report}",
        f"bundle   {bundle}",
        f'next     taskspec generate {bundle} "Your prompt" --stats',
    ):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    return context
