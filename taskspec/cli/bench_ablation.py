"""`taskspec bench ablation`: what each part of a recipe brings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def ablation(
    recipe: Annotated[str, typer.Argument(help="A YAML file, or the name of a shipped recipe.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Changes to the recipe, as key=value.")
    ] = None,
    variant: Annotated[
        list[str] | None, typer.Option(help="Switch off this part only; may be repeated.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for results.json and timings to go on from.")
    ] = None,
) -> None:
    """The recipe without routing, alignment, assignment or clustering, beside the whole of it.

    Each variant is a run of its own, NAME-VARIANT, that takes over the stages it has in common
    with NAME. All are then timed on the same held-out prompts, interleaved, with 95 % intervals.

    Variants: no-routing, no-alignment, no-assignment, random-clusters, and label-by-speed or
    label-by-task, whichever the recipe does not do.

    Examples:

        taskspec bench ablation quickstart --out bench/ablation

        taskspec bench ablation my.yaml evaluate.repeats=3 --variant no-routing
    """
    from rich.console import Console

    from taskspec.evaluation.comparison import render
    from taskspec.pipeline.bench_ablation import bench_ablation
    from taskspec.pipeline.comparing import check_place
    from taskspec.pipeline.variants import run_variants, variant_names
    from taskspec.recipe.loading import load_recipe
    from taskspec.registry import default_registry

    check_place(out)
    console, registry = Console(), default_registry()
    loaded = load_recipe(recipe, overrides or [], registry)
    names = variant_names(loaded.recipe, variant or [])
    variants = run_variants(loaded, overrides or [], names, registry, console)
    console.print()
    render(bench_ablation(variants, console, out), f"{loaded.recipe.name}, part by part", console)
