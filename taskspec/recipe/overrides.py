"""Changes to a recipe from the command line, and the short way to choose a plugin."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from taskspec.errors import Problem
from taskspec.recipe.choice import PluginChoice
from taskspec.recipe.lines import OVERRIDE
from taskspec.recipe.schema import Recipe
from taskspec.recipe.yaml_text import read_yaml

_USE = "use"


@dataclass(frozen=True)
class Override:
    """One change.

    Attributes:
        path: Dotted path of the key.
        value: Its new value.
    """

    path: str
    value: Any


def read_overrides(texts: Sequence[str]) -> tuple[list[Override], list[Problem]]:
    """Parse `key=value` texts; values are YAML, and text where they are no YAML."""
    overrides, problems = [], []
    for text in texts:
        path, equals, written = text.partition("=")
        if not equals or not all(path.split(".")):
            message = "write overrides as key=value, with dots inside the key"
            problems.append(Problem(OVERRIDE, text, message))
            continue
        try:
            value = read_yaml(written)
        except yaml.YAMLError:
            value = written
        overrides.append(Override(path, value))
    return overrides, problems


def apply_overrides(values: dict[str, Any], overrides: Sequence[Override]) -> list[Problem]:
    """Change `values` in place; keys merge into keys, everything else replaces.

    Naming another plugin (`partition=hdbscan`, `partition.use=hdbscan`) replaces the first one
    together with its options.
    """
    problems = []
    for override in overrides:
        *above, last = override.path.split(".")
        section, reached = values, ""
        for key in above:
            reached = f"{reached}.{key}".lstrip(".")
            if section.get(key) is None:
                section[key] = {}
            section = section[key]
            if not isinstance(section, dict):
                message = f"'{reached}' holds a value, not keys"
                problems.append(Problem(OVERRIDE, override.path, message))
                break
        else:
            _merge(section, last, override.value, _is_choice(override.path))
    return problems


def expand_choices(values: dict[str, Any]) -> dict[str, Any]:
    """`partition: kmeans` means `partition: {use: kmeans}`."""
    expanded: dict[str, Any] = _expand(values, Recipe)
    return expanded


def drop_removed_drafts(values: dict[str, Any]) -> None:
    """`draft.pool.NAME: null` removes that draft."""
    draft = values.get("draft")
    if isinstance(draft, dict) and isinstance(draft.get("pool"), dict):
        draft["pool"] = {name: each for name, each in draft["pool"].items() if each is not None}


def _merge(section: dict[str, Any], key: str, value: Any, is_choice: bool) -> None:
    old = section.get(key)
    if is_choice and isinstance(old, dict) and isinstance(value, str):
        section[key] = {**old, "use": value, "options": {}}
    elif isinstance(old, dict) and isinstance(value, dict):
        # The plugin first, so that what its options are merged into is its own.
        for name in sorted(value, key=lambda name: name != _USE):
            _merge(old, name, value[name], False)
    else:
        if key == _USE and old not in (None, value):
            section.pop("options", None)
        section[key] = value


def _is_choice(path: str) -> bool:
    hint: Any = Recipe
    for key in path.split("."):
        if typing.get_origin(hint) is dict:
            hint = typing.get_args(hint)[1]
        elif dataclasses.is_dataclass(hint) and isinstance(hint, type):
            hint = typing.get_type_hints(hint).get(key)
    return isinstance(hint, type) and issubclass(hint, PluginChoice)


def _expand(section: Any, hint: Any) -> Any:
    if isinstance(hint, type) and issubclass(hint, PluginChoice) and isinstance(section, str):
        return {"use": section}
    if not isinstance(section, dict):
        return section
    hints: dict[str, Any] = {}
    inner = typing.get_args(hint)[1] if typing.get_origin(hint) is dict else None
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        hints = typing.get_type_hints(hint)
    # Every mapping is copied: sections that YAML aliases share must not change together.
    return {key: _expand(each, hints.get(key, inner)) for key, each in section.items()}
