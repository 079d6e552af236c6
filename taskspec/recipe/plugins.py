"""From a plugin choice in a recipe to a plugin."""

from __future__ import annotations

from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from taskspec.errors import PluginError
from taskspec.interfaces import Plugin
from taskspec.recipe.schema import PluginChoice
from taskspec.registry import Registry


def make_plugin_options(registry: Registry, kind: str, choice: PluginChoice) -> Any:
    """The validated `Options` instance of a choice.

    Raises:
        PluginError: When the plugin is not installed or its options do not fit.
    """
    plugin = registry.get(kind, choice.use)
    try:
        merged = OmegaConf.merge(OmegaConf.structured(plugin.Options), choice.options)
        return OmegaConf.to_object(merged)
    except (OmegaConfBaseException, ValueError) as error:
        raise PluginError(f"options of {kind} '{choice.use}': {first_line(error)}") from None


def make_plugin(registry: Registry, kind: str, choice: PluginChoice) -> Plugin:
    """The plugin of a choice, constructed with its options."""
    options = make_plugin_options(registry, kind, choice)
    return registry.get(kind, choice.use)(options)


def first_line(error: Exception) -> str:
    """An OmegaConf error's own words, without the lines that describe its internals."""
    return str(error).partition("\n")[0]
