"""From the plain values of a YAML file to the recipe's dataclasses."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from typing import Any

from omegaconf import MISSING

from taskspec.errors import Problem
from taskspec.recipe.choice import PluginChoice
from taskspec.recipe.conversion import NOT_SET, convert, range_problems, show, suggest
from taskspec.recipe.lines import Places


class Builder:
    """Builds schema dataclasses and collects problems instead of stopping at the first.

    What it returns beside problems is fit for further checks only: wrong values are left to
    their defaults, and range checks may not have passed.

    Attributes:
        problems: What was found so far.
    """

    def __init__(self, places: Places) -> None:
        """Start without problems.

        Args:
            places: Says where a path was set.
        """
        self.problems: list[Problem] = []
        self._places = places

    def build(self, schema: type, values: Any, path: str = "", defaults: Any = None) -> Any:
        """An instance of a schema dataclass.

        Args:
            schema: The dataclass.
            values: What the recipe says; None counts as nothing said.
            path: Dotted path of the section; empty for the whole recipe.
            defaults: An instance that holds what the recipe leaves out; None for the schema's own.
        """
        if values is None:
            values = {}
        if not isinstance(values, Mapping):
            self._report(path, f"expected keys and values, found {show(values)}")
            return _unchecked(schema, {}, defaults)
        hints = typing.get_type_hints(schema)
        for key in values:
            if key not in hints:
                self._report(_join(path, key), _unknown_key(key, schema, hints))
        arguments = {}
        for field in dataclasses.fields(schema):
            sound, value = self._field(field, hints[field.name], values, path, defaults)
            if sound:
                arguments[field.name] = value
        found = range_problems(schema, arguments)
        for name, message in found:
            self._report(_join(path, name) if name else path, message)
        return _unchecked(schema, arguments, defaults) if found else schema(**arguments)

    def _field(
        self,
        field: dataclasses.Field[Any],
        hint: Any,
        values: Mapping[str, Any],
        path: str,
        defaults: Any,
    ) -> tuple[bool, Any]:
        """Whether a field's value is sound, and the value."""
        where = _join(path, field.name)
        default = _default(field, defaults)
        if isinstance(hint, type) and dataclasses.is_dataclass(hint):
            return True, self.build(hint, values.get(field.name), where, default)
        if field.name not in values:
            if default == MISSING:
                self._report(where, NOT_SET)
            return default != MISSING, default
        value = values[field.name]
        if typing.get_origin(hint) is dict and dataclasses.is_dataclass(typing.get_args(hint)[1]):
            return self._members(typing.get_args(hint)[1], value, where)
        try:
            return True, convert(hint, value)
        except ValueError as error:
            self._report(where, str(error))
            return False, None

    def _members(self, schema: type, value: Any, where: str) -> tuple[bool, Any]:
        if not isinstance(value, Mapping):
            self._report(where, f"expected named entries, found {show(value)}")
            # One entry keeps the section from being reported as empty besides.
            return True, {"": _unchecked(schema, {}, None)}
        return True, {
            str(name): self.build(schema, each, _join(where, name)) for name, each in value.items()
        }

    def _report(self, path: str, message: str) -> None:
        self.problems.append(Problem(self._places(path), path, message))


def _join(path: str, key: Any) -> str:
    return f"{path}.{key}" if path else str(key)


def _default(field: dataclasses.Field[Any], defaults: Any) -> Any:
    if defaults is not None:
        return getattr(defaults, field.name)
    if field.default_factory is dataclasses.MISSING:
        return field.default
    try:
        return field.default_factory()
    except ValueError:
        # A section such as `draft` that must not be left empty has no default.
        return None


def _unchecked(schema: type, arguments: Mapping[str, Any], defaults: Any) -> Any:
    """An instance whose range checks are not run."""
    instance: Any = object.__new__(schema)
    for field in dataclasses.fields(schema):
        value = arguments.get(field.name, _default(field, defaults))
        object.__setattr__(instance, field.name, value)
    return instance


def _unknown_key(key: Any, schema: type, known: Mapping[str, Any]) -> str:
    hint = suggest(str(key), known)
    options = " Options of the plugin go under `options`." if _chooses(schema) else ""
    return f"no such key.{hint}{options} Known here: {', '.join(known)}."


def _chooses(schema: type) -> bool:
    return issubclass(schema, PluginChoice)
