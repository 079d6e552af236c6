"""Finding recipes: files, and those that distributions ship."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from taskspec.errors import Problem, RecipeError
from taskspec.registry import Registry

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

PACKAGE = "taskspec.recipes"


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
    found = []
    for provider, folder in folders:
        for file in sorted(folder.iterdir(), key=lambda each: each.name):
            if file.name.endswith(".yaml"):
                first = file.read_text(encoding="utf-8").partition("\n")[0]
                summary = first.removeprefix("#").strip() if first.startswith("#") else ""
                found.append(
                    ShippedRecipe(file.name.removesuffix(".yaml"), provider, summary, file)
                )
    return tuple(found)


def find_recipe(source: str, registry: Registry) -> Traversable:
    """A recipe by path or by shipped name.

    Raises:
        RecipeError: When there is none; says which names there are.
    """
    path = Path(source)
    if path.is_file():
        return path
    shipped = list_recipes(registry)
    for recipe in shipped:
        if recipe.name == source:
            return recipe.file
    names = [recipe.name for recipe in shipped]
    close = difflib.get_close_matches(source.removesuffix(".yaml"), names, n=1)
    hint = f" Did you mean '{close[0]}'?" if close else ""
    message = f"no such file, and no shipped recipe of that name.{hint} Shipped: {', '.join(names)}"
    raise RecipeError([Problem(source, "", message)])
