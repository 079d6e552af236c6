"""`taskspec calibrate`: fit a bundle's draft lengths to the machine at hand."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from taskspec.cli.held_out import typical_prompt
from taskspec.cli.target_option import TargetOption


def calibrate(
    bundle: Annotated[Path, typer.Argument(help="Bundle folder of a finished run.")],
    corpus: Annotated[
        str, typer.Option(help="Where a typical prompt is taken from, to measure with.")
    ] = "package:prompts/quickstart.jsonl",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the lengths, but leave the bundle as it is.")
    ] = False,
    target: TargetOption = None,
) -> None:
    """Choose the draft length of every task and the fallback anew for this machine, in seconds.

    A bundle's lengths fit the machine that its recipe ran on. How often a draft is right holds
    anywhere; what a draft and a target pass cost does not. Both are measured here, and a task
    whose draft does not pay decodes plainly. Drafts, router and answers stay the same.

    Examples:

        taskspec calibrate runs/quickstart/bundle

        taskspec calibrate runs/quickstart/bundle --dry-run
    """
    from rich.console import Console
    from rich.table import Table

    from taskspec.decoding.records import Request
    from taskspec.registry import default_registry
    from taskspec.serving.bundle import load_bundle, write_assignments
    from taskspec.serving.calibration import calibrate as calibrated

    console, loaded = Console(), load_bundle(bundle, default_registry(), target)
    prompt = typical_prompt(loaded, corpus, _TOKENS)
    request = Request(prompt.id, prompt.ids, _TOKENS, loaded.sampling, ignore_eos=True)
    found = calibrated(loaded, request)
    table = Table("task", "draft", "length before", "length here", "predicted speed-up")
    for each in found:
        predicted = "-" if each.predicted is None else f"{each.predicted:.2f}x"
        lengths = [str(a.draft_length) for a in (each.before, each.after)]
        table.add_row(each.before.task, each.before.draft or "plain", *lengths, predicted)
    console.print(table)
    if not dry_run:
        *tasks, fallback = (each.after for each in found)
        write_assignments(bundle, tasks, fallback)
        console.print(f"written to {bundle}", highlight=False, markup=False)


_TOKENS = 32
