"""`taskspec extend`: new tasks for a finished run, which keeps those that it has."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def extend(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    prompts: Annotated[
        Path, typer.Argument(help="New prompts: a corpus, or a log that holds them.")
    ],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Changes to the run's recipe, as key=value.")
    ] = None,
) -> None:
    """Make tasks of the prompts that a run's tasks do not know, keeping these and their drafts.

    Only unknown prompts are partitioned, only new tasks are aligned and assigned; the router learns
    them all. The result is a run beside the first, <name>-extended, with a bundle and report of its
    own. The same command again goes on with an interrupted one.

    Examples:

        taskspec extend runs/quickstart log.jsonl

        taskspec extend runs/quickstart prompts.jsonl partition.options.clusters=1
    """
    from rich.console import Console

    from taskspec.pipeline.extension import extend_recipe
    from taskspec.pipeline.run import run_recipe
    from taskspec.registry import default_registry

    registry, console = default_registry(), Console()
    loaded = extend_recipe(run, prompts, overrides or [], registry, console)
    run_recipe(loaded, registry, console)
