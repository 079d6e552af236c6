"""`taskspec watch`: do drafts keep what was promised of them, and are prompts still known?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from taskspec.evaluation.drift import TaskWatch, Watch
    from taskspec.evaluation.statistics import Interval
    from taskspec.serving.answer_log import KeptLog


def watch(
    bundle: Annotated[Path, typer.Argument(help="The bundle folder that answered.")],
    log: Annotated[Path, typer.Argument(help="What `--watch` has written.")],
    last: Annotated[
        int, typer.Option(min=1, help="Look at so many answers, the newest ones.")
    ] = 2000,
    least: Annotated[
        int, typer.Option(min=1, help="Unknown prompts without which no task is new.")
    ] = 20,
    follow: Annotated[
        bool,
        typer.Option(
            "--follow", help="Look again whenever the log has grown; wait while it is not there."
        ),
    ] = False,
    every: Annotated[
        float, typer.Option(min=0.1, help="Seconds between two looks with --follow.")
    ] = 10.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, a line per look.")] = False,
) -> None:
    """Per task: how often drafts were right beside what was promised, and how many prompts are new.

    The last line says which tasks drifted and whether a new one has appeared. Needs no model and
    loads none.

    Examples:

        taskspec watch runs/quickstart/bundle log.jsonl

        taskspec watch runs/quickstart/bundle log.jsonl --follow --last 500

        taskspec watch runs/quickstart/bundle log.jsonl --json
    """
    import json
    import time
    from dataclasses import asdict

    from rich.console import Console

    from taskspec.evaluation.drift import watch as look
    from taskspec.serving.bundle import read_known, read_manifest

    console, known = Console(), read_known(bundle)
    seen: KeptLog | None = None
    waiting = False
    while True:
        kept = _read(log, follow)
        if kept is None and not waiting:
            typer.echo(f"{log} is not there; waiting for it", err=True)
        waiting = kept is None
        if kept is not None and kept != seen:
            # Read anew: `calibrate` may have changed drafts meanwhile.
            manifest = read_manifest(bundle)
            temperature = manifest.decode["temperature"]
            newest = kept.answers[-last:]
            found = look(manifest.tasks, manifest.fallback, known, temperature, newest, least)
            if as_json:
                drifted = [each.task for each in found.tasks if each.drifted]
                typer.echo(json.dumps({**asdict(found), "drifted": drifted, "torn": kept.torn}))
            else:
                console.print(_table(found.tasks))
                console.print(_unknown(found), highlight=False, soft_wrap=True)
                if kept.torn:
                    said = f"torn     lines that were cut off, and are left out: {kept.torn}"
                    console.print(said, highlight=False, soft_wrap=True)
                console.print(_verdict(found), highlight=False, markup=False, soft_wrap=True)
        if not follow:
            return
        seen = kept
        time.sleep(every)


def _read(log: Path, follow: bool) -> KeptLog | None:
    """What the log holds; None where it is waited for, as one that was moved away.

    Raises:
        ArtifactError: When it cannot be read.
    """
    from taskspec.errors import ArtifactError
    from taskspec.serving.answer_log import read_log

    try:
        return read_log(log)
    except ArtifactError:
        if follow and not log.exists():
            return None
        raise


def _table(tasks: tuple[TaskWatch, ...]) -> Table:
    from rich.markup import escape
    from rich.table import Table

    table = Table("task", "draft")
    for name in ("answers", "unknown", "promised", "accepted (95 %)", "per pass", "replaced"):
        table.add_column(name, justify="right")
    for each in tasks:
        table.add_row(
            escape(each.task),
            escape(each.draft or "plain"),
            str(each.answers),
            _share(each.unknown),
            _number(each.promised),
            _interval(each.acceptance),
            _number(each.per_pass),
            _share(each.replaced),
        )
    return table


def _unknown(found: Watch) -> str:
    if found.expected is None or found.chance is None:
        return "unknown  not measured by this bundle; run its recipe again to have it"
    return (
        f"unknown  {found.unknown} of {found.measured} prompts; {found.expected:.1%} expected "
        f"(probability of so many {found.chance:.2g})"
    )


def _verdict(found: Watch) -> str:
    """One line: which tasks drifted, and whether a new one has appeared."""
    drifted = [each.task for each in found.tasks if each.drifted]
    parts = [f"drifted: {', '.join(drifted)}" if drifted else "no task drifted"]
    if found.new_task:
        parts.append("a new task has appeared; `taskspec extend` adds it to the run")
    else:
        parts.append("no new task")
    return f"verdict  {'; '.join(parts)} ({found.answers} answers)"


def _interval(value: Interval | None) -> str:
    return "-" if value is None else f"{value.value:.2f} ({value.low:.2f}-{value.high:.2f})"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"
