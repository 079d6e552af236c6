"""`taskspec bench leave-one-out`: what prompts of a task never seen get."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def leave_one_out(
    recipe: Annotated[str, typer.Argument(help="A YAML file, or the name of a shipped recipe.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Changes to the recipe, as key=value.")
    ] = None,
    task: Annotated[
        list[str] | None, typer.Option(help="Leave out this task only; may be repeated.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for results.json and timings to go on from.")
    ] = None,
) -> None:
    """Leave out one known task at a time, and answer its held-out prompts with what is left.

    Each is a run of its own, NAME-without-TASK, that takes over the stages it has in common with
    NAME. Prompts are answered plainly, as routed, with in-flight correction, with correction that
    has experience of the task's earlier answers, with quarantine, by drafts that remember these
    answers, and with experience and memory both: interleaved, with 95 % intervals.

    Examples:

        taskspec bench leave-one-out quickstart --out bench/leave-one-out

        taskspec bench leave-one-out my.yaml evaluate.repeats=3 --task sql
    """
    from rich.console import Console

    from taskspec.evaluation.comparison import render
    from taskspec.pipeline.bench_leave_one_out import bench_leave_one_out
    from taskspec.pipeline.comparing import check_place
    from taskspec.pipeline.left_out import known_tasks, run_without
    from taskspec.recipe.loading import load_recipe
    from taskspec.registry import default_registry

    check_place(out)
    console, registry = Console(), default_registry()
    loaded = load_recipe(recipe, overrides or [], registry)
    tasks = known_tasks(loaded, task or [])
    runs = run_without(loaded, overrides or [], tasks, registry, console)
    console.print()
    found = bench_leave_one_out(loaded, runs, registry, console, out)
    render(found, f"{loaded.recipe.name}, prompts of tasks left out", console)
