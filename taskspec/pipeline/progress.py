"""Progress of long work: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

Advance = Callable[[int], None]

_SECONDS_BETWEEN_LINES = 20.0


@contextmanager
def progress(console: Console, label: str, total: int, done: int = 0) -> Iterator[Advance]:
    """Show how far some work is.

    Args:
        console: Where to show it.
        label: What is being done.
        total: Units of work.
        done: Units finished before, by an interrupted run.

    Yields:
        A function to call with the number of units just finished.
    """
    if console.is_terminal:
        columns = (
            TextColumn("  {task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task(label, total=total, completed=done)
            yield lambda count: bar.advance(task, count)
        return
    finished, last = done, time.monotonic()
    console.print(f"  {label}: {done}/{total}", highlight=False, markup=False)

    def advance(count: int) -> None:
        nonlocal finished, last
        finished += count
        if time.monotonic() - last > _SECONDS_BETWEEN_LINES and finished < total:
            last = time.monotonic()
            console.print(f"  {label}: {finished}/{total}", highlight=False, markup=False)

    yield advance
