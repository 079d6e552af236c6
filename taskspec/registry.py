"""The plugins that are installed, and who provided each."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from importlib.resources.abc import Traversable
from typing import Any

import pluggy

from taskspec import hookspecs
from taskspec.declarations import check_class, check_hooks
from taskspec.errors import PluginError
from taskspec.interfaces import (
    Aligner,
    Drafter,
    Encoder,
    Partitioner,
    Plugin,
    Router,
    Verifier,
)

GROUP = "taskspec"

KINDS: Mapping[str, type[Plugin]] = {
    "encoder": Encoder,
    "partitioner": Partitioner,
    "drafter": Drafter,
    "aligner": Aligner,
    "router": Router,
    "verifier": Verifier,
}


@dataclass(frozen=True)
class PluginRecord:
    """One plugin and where it came from.

    Attributes:
        kind: `encoder`, `partitioner`, `drafter`, `aligner`, `router` or `verifier`.
        name: What a recipe writes.
        plugin: The class.
        distribution: Who provides it.
        version: The distribution's version.
        module: The class's module.
        summary: First line of the class's docstring.
    """

    kind: str
    name: str
    plugin: type[Plugin]
    distribution: str
    version: str
    module: str
    summary: str


@dataclass(frozen=True)
class LoadFailure:
    """A distribution whose plugins could not be loaded.

    Attributes:
        distribution: Who provides them, with the version.
        entry_point: The entry point that failed.
        reason: What went wrong and what to do.
    """

    distribution: str
    entry_point: str
    reason: str

    def __str__(self) -> str:
        return (
            f"entry point '{self.entry_point}' of {self.distribution} could not be loaded: "
            f"{self.reason}"
        )


class Registry:
    """All plugins by kind and name; a broken distribution does not take the others down.

    Nobody has precedence: a name that two plugins of a kind claim belongs to neither.
    """

    def __init__(self, plugin_modules: Iterable[EntryPoint]) -> None:
        """Load plugins.

        Args:
            plugin_modules: Entry points of installed distributions; each names a module.
        """
        self._manager = pluggy.PluginManager(hookspecs.PROJECT)
        self._manager.add_hookspecs(hookspecs)
        self._claims: dict[tuple[str, str], list[PluginRecord]] = {}
        self._recipe_folders: list[tuple[str, Traversable]] = []
        self._failures: list[LoadFailure] = []
        for entry_point in sorted(plugin_modules, key=lambda each: (_provider(each), each.name)):
            try:
                self._load(entry_point)
            except Exception as error:
                reason = str(error) if isinstance(error, PluginError) else _loading_failed(error)
                label = " ".join(_provider(entry_point))
                self._failures.append(LoadFailure(label, entry_point.name, reason))

    @classmethod
    def discover(cls) -> Registry:
        """Load every installed distribution's plugins."""
        return cls(entry_points(group=GROUP))

    def tell(self, hook: str, **facts: Any) -> dict[str, Exception]:
        """Tell every observer, whatever the others do.

        Args:
            hook: The hook's name.
            facts: Its arguments.

        Returns:
            What went wrong, by the entry point whose observer it was.
        """
        everyone = self._manager.list_name_plugin()
        failed: dict[str, Exception] = {}
        for name, module in everyone:
            others = [other for _, other in everyone if other is not module]
            try:
                self._manager.subset_hook_caller(hook, others)(**facts)
            except Exception as error:
                failed[name] = error
        return failed

    @property
    def failures(self) -> tuple[LoadFailure, ...]:
        """Entry points that could not be loaded."""
        return tuple(self._failures)

    @property
    def clashes(self) -> tuple[str, ...]:
        """One message for each name that several plugins of a kind claim."""
        return tuple(_clash(claims) for claims in self._claims.values() if len(claims) > 1)

    def plugins(self) -> tuple[PluginRecord, ...]:
        """Every plugin that a recipe can name, by kind and name."""
        order = list(KINDS)
        usable = [claims[0] for claims in self._claims.values() if len(claims) == 1]
        return tuple(sorted(usable, key=lambda each: (order.index(each.kind), each.name)))

    def record(self, kind: str, name: str) -> PluginRecord:
        """A plugin's record.

        Raises:
            PluginError: When there is none of that name, saying which there are and what could
                not be loaded; or when several claim it.
        """
        claims = self._claims.get((kind, name), [])
        if len(claims) == 1:
            return claims[0]
        if claims:
            raise PluginError(_clash(claims))
        names = [each.name for each in self.plugins() if each.kind == kind]
        close = difflib.get_close_matches(name, names, n=1)
        hint = f" Did you mean '{close[0]}'?" if close else ""
        broken = "".join(f" The {failure}." for failure in self._failures)
        raise PluginError(
            f"no {kind} named '{name}'.{hint} Installed: {', '.join(names) or 'none'}.{broken}"
        )

    def get(self, kind: str, name: str) -> type[Plugin]:
        """A plugin's class.

        Raises:
            PluginError: As `record` does.
        """
        return self.record(kind, name).plugin

    def recipe_folders(self) -> list[tuple[str, Traversable]]:
        """Folders of recipes that distributions ship, with the distribution's name."""
        return list(self._recipe_folders)

    def _load(self, entry_point: EntryPoint) -> None:
        module = entry_point.load()
        check_hooks(self._manager, module)
        other = self._manager.get_name(module)
        if other is not None:
            raise PluginError(
                f"{module.__name__} is loaded already, for {other}; uninstall one of the two"
            )
        distribution, version = _provider(entry_point)
        unique = f"entry point '{entry_point.name}' of {distribution} {version}"
        try:
            self._manager.register(module, unique)
            records = [
                _checked(kind, plugin, entry_point)
                for kind in KINDS
                for plugin in self._offers(module, f"taskspec_{kind}s")
            ]
            folders = [_folder(each) for each in self._offers(module, "taskspec_recipes")]
        except Exception:
            if self._manager.is_registered(module):
                self._manager.unregister(module)
            raise
        for record in records:
            self._claims.setdefault((record.kind, record.name), []).append(record)
        self._recipe_folders += [(distribution, folder) for folder in folders]

    def _offers(self, module: Any, hook: str) -> Iterator[Any]:
        """What one module's implementations of a hook return.

        Calling the hook through pluggy would let one module's exception hide all the others'.
        """
        for implementation in getattr(self._manager.hook, hook).get_hookimpls():
            if implementation.plugin is module:
                offered = implementation.function()
                if not isinstance(offered, Iterable):
                    raise PluginError(
                        f"{module.__name__}.{implementation.function.__name__} returned "
                        f"{offered!r}; return a tuple"
                    )
                yield from offered


@lru_cache(maxsize=1)
def default_registry() -> Registry:
    """The registry of what is installed, loaded once per process."""
    return Registry.discover()


def _provider(entry_point: EntryPoint) -> tuple[str, str]:
    """Name and version of the distribution that declares an entry point."""
    distribution = entry_point.dist
    if distribution is None:
        return "an unknown distribution", ""
    return distribution.name, distribution.version


def _loading_failed(error: Exception) -> str:
    return f"{type(error).__name__}: {error}; install what it lacks, update it, or uninstall it"


def _clash(claims: Iterable[PluginRecord]) -> str:
    claims = list(claims)
    places = " and ".join(
        f"{each.module}.{each.plugin.__qualname__} of {each.distribution} {each.version}"
        for each in claims
    )
    return (
        f"{len(claims)} {claims[0].kind}s are named '{claims[0].name}': {places}; rename or "
        "uninstall until one is left"
    )


def _folder(offered: Any) -> Traversable:
    if not isinstance(offered, Traversable) or not offered.is_dir():
        raise PluginError(
            f"taskspec_recipes offered {offered!r}, which is no folder; give a pathlib.Path or "
            "importlib.resources.files(...)"
        )
    return offered


def _checked(kind: str, plugin: Any, entry_point: EntryPoint) -> PluginRecord:
    """A class's record.

    Raises:
        PluginError: When the class breaks its kind's contract.
    """
    check_class(plugin, kind, KINDS[kind])
    distribution, version = _provider(entry_point)
    summary = inspect.cleandoc(plugin.__doc__ or "").partition("\n")[0]
    return PluginRecord(
        kind, plugin.name, plugin, distribution, version, plugin.__module__, summary
    )
