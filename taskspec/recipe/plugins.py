"""From a plugin choice in a recipe to a plugin."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from typing import Any

from omegaconf import MISSING

from taskspec.errors import PluginError
from taskspec.interfaces import Plugin
from taskspec.recipe.choice import PluginChoice
from taskspec.recipe.conversion import NOT_SET, convert, range_problems, suggest
from taskspec.registry import Registry


def make_plugin_options(registry: Registry, kind: str, choice: PluginChoice) -> Any:
    """The validated `Options` instance of a choice.

    Raises:
        PluginError: When the plugin is not installed or its options do not fit; all that is
            wrong with them at once.
    """
    plugin = registry.get(kind, choice.use)
    converted, problems = check_options(plugin, choice)
    if problems:
        listed = "; ".join(f"{name}: {message}" if name else message for name, message in problems)
        raise PluginError(f"options of {kind} '{choice.use}': {listed}")
    return plugin.Options(**converted)


def make_plugin(registry: Registry, kind: str, choice: PluginChoice) -> Plugin:
    """The plugin of a choice, constructed with its options.

    Raises:
        PluginError: As `make_plugin_options` does.
    """
    options = make_plugin_options(registry, kind, choice)
    return registry.get(kind, choice.use)(options)


def check_options(
    plugin: type[Plugin], choice: PluginChoice
) -> tuple[dict[str, Any], list[tuple[str | None, str]]]:
    """Compare a choice's options with what the plugin declares.

    Returns:
        The options converted to the declared types, and the problems: pairs of option name (None
        for the options as a whole) and message.
    """
    try:
        hints = typing.get_type_hints(plugin.Options)
    except (NameError, TypeError) as error:
        where = f"{plugin.__module__}.{plugin.__qualname__}.Options"
        return {}, [(None, f"{where} has an annotation that cannot be resolved: {error}")]
    known = {field.name: hints[field.name] for field in dataclasses.fields(plugin.Options)}
    converted: dict[str, Any] = {}
    problems: list[tuple[str | None, str]] = []
    for name, value in choice.options.items():
        if name not in known:
            problems.append((str(name), _unknown_option(str(name), choice.use, known)))
            continue
        try:
            converted[name] = convert(known[name], value)
        except ValueError as error:
            problems.append((name, str(error)))
    missing = [name for name in _required(plugin.Options) if name not in choice.options]
    problems += [(name, NOT_SET) for name in missing]
    lacking = [name for name in _required(plugin.Options) if name not in converted]
    if not lacking:
        problems += range_problems(plugin.Options, converted)
    return converted, problems


def _required(options: Any) -> list[str]:
    return [
        field.name
        for field in dataclasses.fields(options)
        if field.default_factory is dataclasses.MISSING
        and (field.default is dataclasses.MISSING or field.default == MISSING)
    ]


def _unknown_option(name: str, use: str, known: Mapping[str, Any]) -> str:
    return (
        f"'{use}' has no such option.{suggest(name, known)} Options: {', '.join(known) or 'none'}."
    )
