"""Checks of what a plugin module and its classes declare; they turn silence into messages."""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import re
from types import ModuleType
from typing import Any

import pluggy

from taskspec import hookspecs
from taskspec.errors import PluginError
from taskspec.interfaces import Plugin

HOOKS = tuple(name for name in vars(hookspecs) if name.startswith("taskspec_"))
_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


def check_hooks(manager: pluggy.PluginManager, module: Any) -> None:
    """Refuse a module whose hooks nobody would call.

    Pluggy itself passes over misspelled hooks and over functions without the marker.

    Raises:
        PluginError: When it is no module, has no hook, or has one that is misspelled or unmarked.
    """
    if not isinstance(module, ModuleType):
        raise PluginError(
            f"the entry point names {module!r}, which is no module; name the module that has "
            'the hooks, as in acme = "acme_taskspec"'
        )
    hooks = 0
    for name in dir(module):
        marks = manager.parse_hookimpl_opts(module, name)
        if marks is None:
            if name in HOOKS and inspect.isfunction(getattr(module, name)):
                raise PluginError(
                    f"{module.__name__}.{name} lacks @taskspec.hookspecs.hookimpl, so nobody "
                    "would call it; decorate it"
                )
            continue
        hook = marks.get("specname") or name
        if hook not in HOOKS and not marks.get("optionalhook"):
            close = difflib.get_close_matches(hook, HOOKS, n=1)
            mend = f" (did you mean '{close[0]}'?)" if close else f"; hooks: {', '.join(HOOKS)}"
            raise PluginError(f"{module.__name__}.{name} implements no hook of TaskSpec{mend}")
        hooks += 1
    if not hooks:
        raise PluginError(
            f"{module.__name__} has no hook; add a function such as taskspec_routers, decorated "
            "with @taskspec.hookspecs.hookimpl"
        )


def check_plugin_name(name: str, where: str = "the name") -> None:
    """Refuse a name that recipes could not write plainly.

    Raises:
        PluginError: When it is not made of lower case letters and digits joined by dashes.
    """
    if not _NAME.fullmatch(name):
        raise PluginError(
            f"{where} is {name!r}; use lower case letters and digits joined by dashes"
        )


def check_class(plugin: Any, kind: str, interface: type[Plugin]) -> None:
    """Refuse a class that is not what its kind asks for.

    Args:
        plugin: What a hook offered.
        kind: The hook's kind, for the message.
        interface: The kind's interface.

    Raises:
        PluginError: When the class breaks the contract; says how to mend it.
    """
    if not (inspect.isclass(plugin) and issubclass(plugin, interface)):
        raise PluginError(
            f"{plugin!r} was offered as {kind} but does not inherit from "
            f"taskspec.interfaces.{interface.__name__}"
        )
    where = f"{plugin.__module__}.{plugin.__qualname__}"
    name = getattr(plugin, "name", None)
    if not isinstance(name, str):
        raise PluginError(f"{where} has no `name`; give it the name that recipes write")
    check_plugin_name(name, f"{where}.name")
    missing = sorted(getattr(plugin, "__abstractmethods__", ()))
    if missing:
        raise PluginError(f"{where} lacks {', '.join(missing)}; implement what the kind asks for")
    _check_options(f"{where}.Options", plugin.Options)


def _check_options(where: str, options: Any) -> None:
    # A subclass of a dataclass that is not decorated itself would lose its own fields.
    parameters = vars(options).get("__dataclass_params__") if inspect.isclass(options) else None
    if parameters is None or not parameters.frozen:
        raise PluginError(f"{where} is no frozen dataclass; decorate it: @dataclass(frozen=True)")
    for field in dataclasses.fields(options):
        if not field.metadata.get("help"):
            raise PluginError(
                f"{where}.{field.name} is undocumented; declare it with "
                "taskspec.interfaces.option(default, help)"
            )
