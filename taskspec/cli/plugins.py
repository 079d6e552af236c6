"""`taskspec plugins`: what is installed, and what options it takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from taskspec.registry import PluginRecord, Registry


def plugins(
    name: Annotated[
        str | None, typer.Argument(help="Show the options of the plugins of this name.")
    ] = None,
) -> None:
    """List installed plugins, or show one plugin's options.

    Examples:

        taskspec plugins

        taskspec plugins causal-lm
    """
    from taskspec.errors import PluginError
    from taskspec.registry import default_registry

    registry = default_registry()
    records = registry.plugins()
    if name is None:
        _print_table(
            ("kind", "name", "provider", "version", "what it does"),
            ((r.kind, r.name, r.distribution, r.version, r.summary) for r in records),
        )
    else:
        named = [record for record in records if record.name == name]
        if not named:
            raise PluginError(unknown_plugin(name, registry))
        for record in named:
            _show(record)
    for failure in registry.failures:
        typer.echo(f"warning: {failure}", err=True)
    for clash in registry.clashes:
        typer.echo(f"warning: {clash}", err=True)


def unknown_plugin(name: str, registry: Registry) -> str:
    """Why no plugin goes by a name."""
    import difflib

    names = sorted({record.name for record in registry.plugins()})
    close = difflib.get_close_matches(name, names, n=1)
    hint = f" Did you mean '{close[0]}'?" if close else ""
    notes = [f"no plugin named '{name}'.{hint} Installed: {', '.join(names) or 'none'}."]
    return "\n".join([*notes, *map(str, registry.failures), *registry.clashes])


def _show(record: PluginRecord) -> None:
    """One plugin's docstring and options."""
    import dataclasses
    import inspect

    typer.echo(f"{record.kind} {record.name}, {record.distribution} {record.version}\n")
    typer.echo(inspect.cleandoc(record.plugin.__doc__ or ""))
    rows = []
    for field in dataclasses.fields(record.plugin.Options):
        default = field.default
        if default is dataclasses.MISSING and callable(field.default_factory):
            default = field.default_factory()
        shown = "required" if default is dataclasses.MISSING else repr(default)
        rows.append((field.name, _type_name(field.type), shown, field.metadata["help"]))
    if rows:
        _print_table(("option", "type", "default", "what it does"), rows)
    else:
        typer.echo("It takes no options.")


def _type_name(annotation: object) -> str:
    """A type as its author wrote it, with or without postponed annotations."""
    return annotation.__name__ if isinstance(annotation, type) else str(annotation)


def _print_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table on a terminal; elsewhere one row a line, its cells between tabs."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    if not console.is_terminal:
        for row in rows:
            typer.echo("\t".join(row))
        return
    table = Table(*headings)
    for row in rows:
        table.add_row(*map(Text, row))
    console.print(table)
