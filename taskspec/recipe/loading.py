"""Loading a recipe: YAML, overrides, schema, plugins; every problem at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from taskspec.errors import Problem, RecipeError
from taskspec.recipe.building import Builder
from taskspec.recipe.checks import check_recipe
from taskspec.recipe.corpus_path import absolute_corpus
from taskspec.recipe.lines import KeyLine, Places, key_lines
from taskspec.recipe.lookup import find_recipe
from taskspec.recipe.model_path import with_absolute_models
from taskspec.recipe.overrides import (
    apply_overrides,
    drop_removed_drafts,
    expand_choices,
    read_overrides,
)
from taskspec.recipe.schema import Recipe
from taskspec.recipe.yaml_text import read_yaml, write_yaml
from taskspec.registry import Registry

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

_WHOLE = "recipe"


@dataclass(frozen=True)
class LoadedRecipe:
    """A recipe ready to run.

    Attributes:
        recipe: The validated values.
        source: What was asked for: a path or a shipped name.
        folder: The folder that relative paths start at; None for a recipe that lies in none.
        text: The resolved recipe as YAML; from wherever it is loaded, it is the same one with the
            same prompts and models.
    """

    recipe: Recipe
    source: str
    folder: Path | None
    text: str


def load_recipe(source: str, overrides: Sequence[str], registry: Registry) -> LoadedRecipe:
    """Load and check a recipe.

    Args:
        source: A YAML file or the name of a shipped recipe.
        overrides: Dotted changes such as `align.tokens=1000`; `key=null` removes a pool member.
        registry: The plugins.

    Raises:
        RecipeError: With every problem, each with its place.
    """
    file = find_recipe(source, registry)
    name = source if Path(source).is_file() else file.name
    folder = file.parent if isinstance(file, Path) else None
    values, lines = _read(name, file)
    changes, problems = read_overrides(overrides)
    values = expand_choices(values)
    problems += apply_overrides(values, changes)
    values = expand_choices(values)
    drop_removed_drafts(values)
    places = Places(name, lines, [change.path for change in changes])
    builder = Builder(places)
    recipe: Recipe = builder.build(Recipe, values)
    problems += _repeated_keys(name, lines) + builder.problems
    problems += check_recipe(recipe, folder, registry, places, problems)
    if problems:
        raise RecipeError(sorted(problems, key=lambda problem: places.order(problem.path)))
    recipe = with_absolute_models(recipe)
    path = absolute_corpus(recipe.corpus.path, folder)
    corpus = dataclasses.replace(recipe.corpus, path=path)
    text = dump_recipe(dataclasses.replace(recipe, corpus=corpus))
    return LoadedRecipe(recipe, source, folder, text)


def dump_recipe(recipe: Recipe) -> str:
    """A recipe as YAML, every value written out."""
    return write_yaml(dataclasses.asdict(recipe))


def _read(name: str, file: Traversable) -> tuple[dict[str, Any], list[KeyLine]]:
    content = file.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        problem = Problem(f"{name}:{line}", _WHOLE, "not UTF-8 text; save the file as UTF-8")
        raise RecipeError([problem]) from None
    try:
        # The lines come first: they refuse what contains itself, which later steps would follow.
        lines, values = key_lines(text), read_yaml(text)
    except yaml.YAMLError as error:
        raise RecipeError([_syntax_problem(name, text, error)]) from None
    if not isinstance(values, dict):
        found = "is empty" if values is None else "holds no keys"
        message = f"the file {found}; `taskspec copy quickstart` writes a recipe to start from"
        raise RecipeError([Problem(name, _WHOLE, message)])
    return values, lines


def _syntax_problem(name: str, text: str, error: yaml.YAMLError) -> Problem:
    line = None
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        line = None if mark is None else mark.line + 1
        reason = error.problem or error.context or str(error)
    elif isinstance(error, yaml.reader.ReaderError):
        line = text.count("\n", 0, error.position) + 1
        reason = f"the character U+{ord(text[error.position]):04X} is not allowed"
    else:
        reason = str(error)
    where = name if line is None else f"{name}:{line}"
    return Problem(where, _WHOLE, f"not valid YAML: {reason}")


def _repeated_keys(name: str, lines: Sequence[KeyLine]) -> list[Problem]:
    return [
        Problem(f"{name}:{each.line}", each.path, f"stands on line {each.earlier} too; keep one")
        for each in lines
        if each.earlier is not None
    ]
