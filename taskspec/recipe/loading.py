"""Loading a recipe: YAML, overrides, schema, plugins; every problem at once."""

from __future__ import annotations

import dataclasses
import difflib
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from omegaconf import MISSING, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from taskspec.errors import Problem, RecipeError
from taskspec.recipe.checks import check_recipe
from taskspec.recipe.lines import KeyLine, key_lines, line_of
from taskspec.recipe.lookup import find_recipe
from taskspec.recipe.plugins import first_line
from taskspec.recipe.schema import PluginChoice, Recipe
from taskspec.registry import Registry

OVERRIDE = "override"


@dataclass(frozen=True)
class LoadedRecipe:
    """A recipe ready to run.

    Attributes:
        recipe: The validated values.
        source: What was asked for: a path or a shipped name.
        folder: The recipe's folder, or None for a shipped one.
        text: The resolved recipe as YAML; loading it gives an equal recipe.
    """

    recipe: Recipe
    source: str
    folder: Path | None
    text: str


class _Places:
    """Says where a key was set: a line of the file, or an override."""

    def __init__(self, name: str, lines: list[KeyLine], overridden: Sequence[str]) -> None:
        self.name, self.lines, self.overridden = name, lines, overridden

    def __call__(self, path: str) -> str:
        if any(f"{path}.".startswith(f"{key}.") for key in self.overridden):
            return OVERRIDE
        line = line_of(path, self.lines)
        return self.name if line is None else f"{self.name}:{line}"


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
    name = source if isinstance(file, Path) else f"{source}.yaml"
    values, lines = _read(name, file.read_text(encoding="utf-8"))
    problems = [
        Problem(f"{name}:{each.line}", each.path, "this key stands twice; keep one")
        for each in lines
        if each.repeated
    ]
    changes, override_problems = _read_overrides(overrides)
    problems += override_problems
    places = _Places(name, lines, list(changes))
    for path, value in changes.items():
        _set(values, path, value)
    _drop_removed_members(values)
    _expand_choices(values)
    recipe = _build(Recipe, values, "", places, problems)
    folder = file.parent if isinstance(file, Path) else None
    if recipe is not None:
        problems += check_recipe(recipe, folder, registry, places)
    if problems or recipe is None:
        raise RecipeError(_without_repeats(problems))
    return LoadedRecipe(recipe, source, folder, dump_recipe(recipe))


def dump_recipe(recipe: Recipe) -> str:
    """A recipe as YAML, every value written out."""
    return yaml.safe_dump(dataclasses.asdict(recipe), sort_keys=False, allow_unicode=True)


def _read(name: str, text: str) -> tuple[dict[str, Any], list[KeyLine]]:
    try:
        lines, values = key_lines(text), yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = name if mark is None else f"{name}:{mark.line + 1}"
        reason = getattr(error, "problem", None) or str(error)
        raise RecipeError([Problem(where, "", f"not valid YAML: {reason}")]) from None
    if not isinstance(values, dict):
        raise RecipeError([Problem(name, "", "a recipe is a mapping of keys; this file is not")])
    return values, lines


def _read_overrides(overrides: Sequence[str]) -> tuple[dict[str, Any], list[Problem]]:
    changes: dict[str, Any] = {}
    problems = []
    for override in overrides:
        key, equals, text = override.partition("=")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            value = text
        if not equals or not key:
            problems.append(Problem(OVERRIDE, override, "write overrides as key=value"))
        else:
            changes[key] = value
    return changes, problems


def _set(values: dict[str, Any], path: str, value: Any) -> None:
    *above, last = path.split(".")
    for key in above:
        inner = values.get(key)
        if isinstance(inner, str):
            inner = {"use": inner}
        values[key] = inner if isinstance(inner, dict) else {}
        values = values[key]
    values[last] = value


def _drop_removed_members(values: dict[str, Any]) -> None:
    draft = values.get("draft")
    if isinstance(draft, dict) and isinstance(draft.get("pool"), dict):
        draft["pool"] = {name: each for name, each in draft["pool"].items() if each is not None}


def _expand_choices(values: dict[str, Any]) -> None:
    """`partition: kmeans` means `partition: {use: kmeans}`."""

    def expand(section: Any, hint: Any) -> Any:
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            if issubclass(hint, PluginChoice) and isinstance(section, str):
                return {"use": section}
            if isinstance(section, dict):
                hints = typing.get_type_hints(hint)
                return {key: expand(each, hints.get(key)) for key, each in section.items()}
        if typing.get_origin(hint) is dict and isinstance(section, dict):
            inner = typing.get_args(hint)[1]
            return {key: expand(each, inner) for key, each in section.items()}
        return section

    values.update(expand(dict(values), Recipe))


def _build(
    schema: type, values: Any, path: str, places: _Places, problems: list[Problem]
) -> Any | None:
    """An instance of a schema dataclass, collecting problems instead of stopping at the first."""
    if values is None:
        values = {}
    if not isinstance(values, Mapping):
        problems.append(Problem(places(path), path, f"expected keys and values, found {values!r}"))
        return None
    hints = typing.get_type_hints(schema)
    known = {field.name: field for field in dataclasses.fields(schema)}
    sound, arguments = True, {}
    for key, value in values.items():
        where = f"{path}.{key}".lstrip(".")
        if key not in known:
            problems.append(Problem(places(where), where, _unknown_key(str(key), known)))
            sound = False
            continue
        before = len(problems)
        arguments[key] = _value(hints[key], value, where, places, problems)
        sound = sound and len(problems) == before
    for key, field in known.items():
        if key not in arguments and field.default == MISSING:
            where = f"{path}.{key}".lstrip(".")
            problems.append(Problem(places(where), where, "is required but not set"))
            sound = False
        elif key not in arguments and dataclasses.is_dataclass(hints[key]):
            before = len(problems)
            default = field.default_factory if callable(field.default_factory) else None
            if default is hints[key]:
                arguments[key] = _build(
                    hints[key], {}, f"{path}.{key}".lstrip("."), places, problems
                )
            sound = sound and len(problems) == before
    if not sound:
        return None
    try:
        return schema(**arguments)
    except ValueError as error:
        name = str(error).partition(" ")[0]
        where = f"{path}.{name}".lstrip(".") if name in known else path
        problems.append(Problem(places(where), where, str(error)))
        return None


def _value(hint: Any, value: Any, path: str, places: _Places, problems: list[Problem]) -> Any:
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return _build(hint, value, path, places, problems)
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) is dict and dataclasses.is_dataclass(arguments[1]):
        if not isinstance(value, Mapping):
            problems.append(Problem(places(path), path, f"expected named entries, found {value!r}"))
            return None
        return {
            key: _value(arguments[1], each, f"{path}.{key}", places, problems)
            for key, each in value.items()
        }
    return _leaf(hint, value, path, places, problems)


def _leaf(hint: Any, value: Any, path: str, places: _Places, problems: list[Problem]) -> Any:
    """One plain value, converted by OmegaConf's rules for the field's type."""
    holder = dataclasses.make_dataclass("Holder", [("value", hint, MISSING)])
    try:
        merged = OmegaConf.merge(OmegaConf.structured(holder), {"value": value})
        return OmegaConf.to_container(merged)["value"]  # type: ignore[call-overload, index]
    except OmegaConfBaseException as error:
        problems.append(Problem(places(path), path, f"{first_line(error)}"))
        return None


def _unknown_key(key: str, known: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(key, known, n=1)
    hint = f"did you mean '{close[0]}'? " if close else ""
    return f"no such key; {hint}Known here: {', '.join(known)}"


def _without_repeats(problems: Sequence[Problem]) -> list[Problem]:
    return list(dict.fromkeys(problems))
