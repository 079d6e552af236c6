"""Finding recipes: files, and those that distributions ship."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from taskspec.errors import Problem, RecipeError
from taskspec.recipe.conversion import suggest
from taskspec.registry import Registry

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

PACKAGE = "taskspec.recipes"
_ENDING = ".yaml"


@dataclass(frozen=True)
class ShippedRecipe:
    """A recipe that a distribution ships.

    Attributes:
        name: What `taskspec run` takes.
        provider: Who ships it.
        summary: Its first comment line.
        file: The YAML file.
    """

    name: str
    provider: str
    summary: str
    file: Traversable


def list_recipes(registry: Registry) -> tuple[ShippedRecipe, ...]:
    """All shipped recipes, TaskSpec's own first."""
    folders: list[tuple[str, Traversable]] = [("taskspec", resources.files(PACKAGE))]
    folders += registry.recipe_folders()
    return tuple(
        ShippedRecipe(file.name.removesuffix(_ENDING), provider, _summary(file), file)
        for provider, folder in folders
        for file in sorted(folder.iterdir(), key=lambda each: each.name)
        if file.name.endswith(_ENDING)
    )


def find_recipe(source: str, registry: Registry) -> Traversable:
    """A recipe by path or by shipped name.

    Raises:
        RecipeError: When there is none, saying which names there are; or when several
            distributions ship one of that name.
    """
    path = Path(source)
    return path if path.is_file() else find_shipped(source, registry).file


def find_shipped(name: str, registry: Registry) -> ShippedRecipe:
    """A recipe by its shipped name.

    Raises:
        RecipeError: As `find_recipe` does.
    """
    shipped = list_recipes(registry)
    found = [recipe for recipe in shipped if recipe.name == name]
    if len(found) == 1:
        return found[0]
    if found:
        providers = " and ".join(recipe.provider for recipe in found)
        message = f"shipped by {providers}; give the path of one: " + ", ".join(
            str(recipe.file) for recipe in found
        )
    else:
        names = [recipe.name for recipe in shipped]
        hint = suggest(Path(name).name.removesuffix(_ENDING), names)
        message = (
            f"no such file, and no shipped recipe of that name.{hint} "
            f"Shipped: {', '.join(names) or 'none'}."
        )
    raise RecipeError([Problem(name, "recipe", message)])


def _summary(file: Traversable) -> str:
    first = file.read_bytes().partition(b"\n")[0].decode("utf-8-sig", errors="replace")
    return first.removeprefix("#").strip() if first.startswith("#") else ""
