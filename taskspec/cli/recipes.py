"""`taskspec recipes` and `taskspec copy`: recipes that are shipped."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def recipes() -> None:
    """List shipped recipes.

    Examples:

        taskspec recipes
    """
    from rich.console import Console
    from rich.table import Table

    from taskspec.recipe.lookup import list_recipes
    from taskspec.registry import default_registry

    table = Table("name", "provider", "what it does")
    for recipe in list_recipes(default_registry()):
        table.add_row(recipe.name, recipe.provider, recipe.summary)
    Console().print(table)


def copy(
    name: Annotated[str, typer.Argument(help="A shipped recipe, as listed by `recipes`.")],
    destination: Annotated[
        Path | None, typer.Argument(help="File to write; default NAME.yaml here.")
    ] = None,
) -> None:
    """Copy a shipped recipe, to change it.

    Examples:

        taskspec copy quickstart my.yaml
    """
    from taskspec.errors import ArtifactError
    from taskspec.recipe.lookup import find_recipe
    from taskspec.registry import default_registry

    text = find_recipe(name, default_registry()).read_text(encoding="utf-8")
    path = destination or Path(f"{name}.yaml")
    if path.exists():
        raise ArtifactError(f"{path} exists; name another file: taskspec copy {name} FILE")
    path.write_text(text, encoding="utf-8")
    typer.echo(f"wrote {path}; run it with: taskspec run {path}")
