"""`taskspec plugins`: what is installed, and what options it takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from taskspec.registry import PluginRecord


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
    from rich.console import Console
    from rich.table import Table

    from taskspec.errors import PluginError
    from taskspec.registry import default_registry

    registry, console = default_registry(), Console()
    records = registry.plugins()
    if name is None:
        table = Table("kind", "name", "provider", "version", "what it does")
        for record in records:
            table.add_row(
                record.kind, record.name, record.distribution, record.version, record.summary
            )
        console.print(table)
    else:
        named = [record for record in records if record.name == name]
        if not named:
            known = ", ".join(sorted({record.name for record in records}))
            raise PluginError(f"no plugin named '{name}'. Installed: {known}")
        for record in named:
            _show(record, console)
    for failure in registry.failures:
        typer.echo(f"{failure.distribution} could not be loaded: {failure.reason}", err=True)


def _show(record: PluginRecord, console: Console) -> None:
    """One plugin's docstring and options."""
    import dataclasses
    import inspect

    from rich.table import Table

    console.print(f"[bold]{record.kind} {record.name}[/bold]  {record.distribution} {record.version}")
    console.print(inspect.getdoc(record.plugin) or "", highlight=False)
    fields = dataclasses.fields(record.plugin.Options)
    if not fields:
        console.print("It takes no options.")
        return
    table = Table("option", "type", "default", "what it does")
    for field in fields:
        default = field.default
        if default is dataclasses.MISSING and callable(field.default_factory):
            default = field.default_factory()
        table.add_row(field.name, str(field.type), repr(default), field.metadata["help"])
    console.print(table)
