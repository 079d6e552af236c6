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
    from taskspec.recipe.lookup import list_recipes
    from taskspec.registry import default_registry

    shipped = list_recipes(default_registry())
    width = max((len(recipe.name) for recipe in shipped), default=0)
    for recipe in shipped:
        typer.echo(f"{recipe.name:<{width}}  {recipe.summary} ({recipe.provider})")


def copy(
    name: Annotated[str, typer.Argument(help="A shipped recipe, as listed by `recipes`.")],
    destination: Annotated[
        Path | None, typer.Argument(help="File or folder to write to; default NAME.yaml here.")
    ] = None,
) -> None:
    """Copy a shipped recipe, to change it.

    Examples:

        taskspec copy quickstart my.yaml
    """
    from taskspec.errors import ArtifactError
    from taskspec.recipe.lookup import find_shipped
    from taskspec.registry import default_registry

    content = find_shipped(name, default_registry()).file.read_bytes()
    path = destination or Path(f"{name}.yaml")
    if path.is_dir():
        path /= f"{name}.yaml"
    try:
        with path.open("xb") as file:
            file.write(content)
    except FileExistsError:
        raise ArtifactError(
            f"{path} exists; name another file: taskspec copy {name} FILE"
        ) from None
    except (FileNotFoundError, NotADirectoryError):
        raise ArtifactError(f"{path.parent} is no folder; make it first") from None
    typer.echo(f"wrote {path}; run it with: taskspec run {path}")
