"""`taskspec report`: what a run found, chose and brought, as a page; or two runs side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from taskspec.report.compare import Comparison, Speedup


def report(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    other: Annotated[
        Path | None, typer.Argument(help="Another run's folder, to compare the first with.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Where a comparison is written; else into the second run's folder."),
    ] = None,
) -> None:
    """Write a finished run's report.html, or compare two runs.

    The report is one file that loads nothing from elsewhere. Everything in it comes from the
    run's folder.

    Examples:

        taskspec report runs/quickstart

        taskspec report runs/quickstart runs/mine --out comparison.html
    """
    from rich.console import Console

    from taskspec.errors import TaskSpecError
    from taskspec.files import check_output
    from taskspec.pipeline.report import gather, write_report

    console = Console()
    if other is None:
        if out is not None:
            raise TaskSpecError("--out is for comparisons; a run's report goes into its folder")
        console.print(
            f"report   {write_report(run)}", highlight=False, markup=False, soft_wrap=True
        )
        return
    from taskspec.pipeline.artifacts import write_atomically
    from taskspec.report.compare import compare
    from taskspec.report.page import render_comparison

    if out is not None:
        check_output(out)
    comparison = compare(gather(run), gather(other))
    path = out or other / f"compared-with-{run.resolve().name}.html"
    write_atomically(path, render_comparison(comparison))
    console.print(_table(comparison))
    for change in comparison.recipe:
        line = f"{change.what}: {change.first or '-'} -> {change.second or '-'}"
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    console.print(f"\nreport   {path}", highlight=False, markup=False, soft_wrap=True)


def _table(comparison: Comparison) -> Table:
    from rich.markup import escape
    from rich.table import Table

    table = Table("method", "prompts", f"A {comparison.first.name}", f"B {comparison.second.name}")
    table.add_column("")
    for row in comparison.speedups:
        cells = (row.method, row.task, _cell(row.first), _cell(row.second), row.verdict)
        table.add_row(*(escape(cell) for cell in cells))
    return table


def _cell(value: Speedup | None) -> str:
    return "-" if value is None else f"{value.value:.2f}x ({value.low:.2f}-{value.high:.2f})"
