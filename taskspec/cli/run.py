"""`taskspec run`: a recipe from prompts to table and bundle."""

from __future__ import annotations

from typing import Annotated

import typer


def run(
    recipe: Annotated[str, typer.Argument(help="A YAML file, or the name of a shipped recipe.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Changes to the recipe, as key=value.")
    ] = None,
) -> None:
    """Run a recipe: find the tasks, align and assign drafts, measure, make a bundle.

    Finished stages are skipped, so the same command continues an interrupted run.

    Examples:

        taskspec run quickstart

        taskspec run my.yaml collect.max_new_tokens=128 seed=1

        torchrun --nproc-per-node 8 -m taskspec run my.yaml
    """
    from rich.console import Console

    from taskspec.pipeline.run import follow_recipe, run_recipe
    from taskspec.recipe.loading import load_recipe
    from taskspec.registry import default_registry
    from taskspec.training.processes import this_process

    registry = default_registry()
    loaded = load_recipe(recipe, overrides or [], registry)
    if this_process().first:
        run_recipe(loaded, registry, Console())
    else:
        follow_recipe(loaded, registry)
