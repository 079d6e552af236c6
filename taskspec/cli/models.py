"""`taskspec models`: the models known by name."""

from __future__ import annotations

import typer


def models() -> None:
    """List the models that a recipe can name; any hub id or local folder works as well.

    Examples:

        taskspec models
    """
    from rich.console import Console
    from rich.table import Table

    from taskspec.models.catalog import CATALOG, PackageFile
    from taskspec.models.fetching import cached_folder

    table = Table("name", "kind", "architecture", "parameters", "download", "licence", "source")
    table.add_column("here", justify="center")
    for entry in CATALOG.values():
        packaged = isinstance(entry.source, PackageFile)
        table.add_row(
            entry.name,
            entry.kind,
            entry.architecture,
            f"{entry.parameters / 1e6:.0f} M",
            f"{entry.source.size / 1e6:.0f} MB" if isinstance(entry.source, PackageFile) else "-",
            entry.licence,
            f"package {entry.source}" if packaged else str(entry.source),
            "yes" if cached_folder(entry) else "no",
        )
    console = Console()
    if console.is_terminal:
        console.print(table)
    else:
        for row in zip(*(column.cells for column in table.columns), strict=True):
            typer.echo("\t".join(str(cell) for cell in row))
    for entry in CATALOG.values():
        typer.echo(f"{entry.name}: {entry.note}")
