"""The plugins that are installed, and who provided each."""

from __future__ import annotations

import dataclasses
import difflib
import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import Distribution, EntryPoint, distributions
from typing import TYPE_CHECKING, Any

import pluggy

from taskspec import hookspecs
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

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

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
        distribution: Who provides them.
        entry_point: The entry point that failed.
        reason: What went wrong and what to do.
    """

    distribution: str
    entry_point: str
    reason: str


@dataclass(frozen=True)
class _Provider:
    """One entry point of one distribution."""

    distribution: Distribution
    entry_point: EntryPoint

    @property
    def label(self) -> str:
        return f"{self.distribution.name} {self.distribution.version}"


class Registry:
    """All plugins by kind and name; a broken distribution does not take the others down."""

    def __init__(self, providers: Iterable[_Provider]) -> None:
        self._manager = pluggy.PluginManager(hookspecs.PROJECT)
        self._manager.add_hookspecs(hookspecs)
        self._records: dict[tuple[str, str], PluginRecord] = {}
        self.failures: list[LoadFailure] = []
        for provider in providers:
            try:
                self._register(provider)
            except Exception as error:
                reason = str(error) if isinstance(error, PluginError) else _loading_failed(error)
                self.failures.append(
                    LoadFailure(provider.label, provider.entry_point.name, reason)
                )

    @classmethod
    def discover(cls) -> Registry:
        """Load every installed distribution's plugins."""
        seen: set[tuple[str, str, str]] = set()
        providers = []
        for distribution in distributions():
            for entry_point in distribution.entry_points.select(group=GROUP):
                key = (distribution.name, entry_point.name, entry_point.value)
                if key not in seen:
                    seen.add(key)
                    providers.append(_Provider(distribution, entry_point))
        return cls(sorted(providers, key=lambda p: (p.distribution.name, p.entry_point.name)))

    @property
    def hook(self) -> Any:
        """Pluggy's relay, for observers."""
        return self._manager.hook

    def plugins(self) -> tuple[PluginRecord, ...]:
        """Every plugin, by kind and name."""
        order = list(KINDS)
        return tuple(
            sorted(self._records.values(), key=lambda each: (order.index(each.kind), each.name))
        )

    def record(self, kind: str, name: str) -> PluginRecord:
        """A plugin's record.

        Raises:
            PluginError: When there is none of that name; says which there are.
        """
        found = self._records.get((kind, name))
        if found is not None:
            return found
        names = sorted(each.name for each in self._records.values() if each.kind == kind)
        close = difflib.get_close_matches(name, names, n=1)
        hint = f" Did you mean '{close[0]}'?" if close else ""
        broken = "".join(
            f" {failure.distribution} could not be loaded: {failure.reason}."
            for failure in self.failures
        )
        raise PluginError(
            f"no {kind} named '{name}'.{hint} Installed: {', '.join(names) or 'none'}.{broken}"
        )

    def get(self, kind: str, name: str) -> type[Plugin]:
        """A plugin's class.

        Raises:
            PluginError: When there is none of that name; says which there are.
        """
        return self.record(kind, name).plugin

    def recipe_folders(self) -> list[tuple[str, Traversable]]:
        """Folders of recipes that distributions ship, with the distribution's name."""
        found: list[tuple[str, Traversable]] = []
        for module, label in self._manager.list_name_plugin():
            implementation = getattr(label, "taskspec_recipes", None)
            if implementation is not None:
                found.extend((module, folder) for folder in implementation())
        return found

    def _register(self, provider: _Provider) -> None:
        module = provider.entry_point.load()
        unique = f"{provider.distribution.name}:{provider.entry_point.name}"
        _refuse_misspelled_hooks(module)
        records = [
            _checked(kind, plugin, provider)
            for kind in KINDS
            for plugin in _offered(module, f"taskspec_{kind}s")
        ]
        for record in records:
            other = self._records.get((record.kind, record.name))
            if other is not None:
                raise PluginError(
                    f"two {record.kind}s are named '{record.name}': {_where(other)} and "
                    f"{_where(record)}; uninstall one of the distributions or rename one plugin"
                )
        self._manager.register(module, unique)
        self._manager.check_pending()
        self._records.update({(record.kind, record.name): record for record in records})


@lru_cache(maxsize=1)
def default_registry() -> Registry:
    """The registry of what is installed, loaded once per process."""
    return Registry.discover()


def _offered(module: Any, hook: str) -> Iterable[type[Plugin]]:
    implementation = getattr(module, hook, None)
    return () if implementation is None else tuple(implementation())


def _loading_failed(error: Exception) -> str:
    return (
        f"{type(error).__name__}: {error}; install what it lacks, update it, or uninstall it"
    )


def _where(record: PluginRecord) -> str:
    return f"{record.module}.{record.plugin.__name__} of {record.distribution} {record.version}"


def _refuse_misspelled_hooks(module: Any) -> None:
    """Functions that look like hooks but are none would otherwise be ignored in silence."""
    known = [name for name in dir(hookspecs) if name.startswith("taskspec_")]
    for name, member in vars(module).items():
        marked = hasattr(member, f"{hookspecs.PROJECT}_impl")
        looks = name.startswith("taskspec_") and inspect.isfunction(member)
        if (marked or looks) and name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean '{close[0]}'?" if close else ""
            raise PluginError(f"{module.__name__}.{name} is no hook of TaskSpec{hint}")
        if looks and not marked:
            raise PluginError(
                f"{module.__name__}.{name} lacks @taskspec.hookspecs.hookimpl, so nobody calls it"
            )


def _checked(kind: str, plugin: Any, provider: _Provider) -> PluginRecord:
    """A class's record.

    Raises:
        PluginError: When the class breaks its kind's contract.
    """
    interface = KINDS[kind]
    if not (inspect.isclass(plugin) and issubclass(plugin, interface)):
        raise PluginError(
            f"{plugin!r} was offered as {kind} but does not inherit from "
            f"taskspec.interfaces.{interface.__name__}"
        )
    where = f"{plugin.__module__}.{plugin.__qualname__}"
    name = getattr(plugin, "name", None)
    if not isinstance(name, str) or not name:
        raise PluginError(f"{where} has no `name`; give it the name that recipes write")
    _check_options(where, plugin.Options)
    return PluginRecord(
        kind,
        name,
        plugin,
        provider.distribution.name,
        provider.distribution.version,
        plugin.__module__,
        (inspect.getdoc(plugin) or "").partition("\n")[0],
    )


def _check_options(where: str, options: Any) -> None:
    parameters = getattr(options, "__dataclass_params__", None)
    if parameters is None or not parameters.frozen:
        raise PluginError(f"{where}.Options must be a frozen dataclass")
    for field in dataclasses.fields(options):
        if not field.metadata.get("help"):
            raise PluginError(
                f"{where}.Options.{field.name} is undocumented; declare it with "
                "taskspec.interfaces.option(default, help)"
            )
