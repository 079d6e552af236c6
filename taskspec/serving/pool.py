"""The drafts of a run or bundle, loaded for the engine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from taskspec.decoding.records import DraftChoice
from taskspec.errors import PluginError
from taskspec.interfaces import Drafter, Member, Target
from taskspec.recipe.choice import PluginChoice
from taskspec.recipe.plugins import make_plugin_options
from taskspec.registry import Registry


@dataclass(frozen=True)
class DraftEntry:
    """One draft that requests may use.

    Attributes:
        name: Unique name, such as `small@task-0`.
        plugin: The drafter plugin and its options.
        folder: What the drafter loads.
        adapter: PEFT folder on top of it, or None for the drafter itself.
        members: Names of other entries that it drafts with.
    """

    name: str
    plugin: PluginChoice
    folder: Path
    adapter: Path | None = None
    members: tuple[str, ...] = ()

    @property
    def of_task(self) -> bool:
        """Whether it was made for one task, as `small@task-0`, and not for all, as `small`."""
        return "@task-" in self.name

    @property
    def key(self) -> str:
        """What entries that are one drafter have in common."""
        return self.name if self.members else str(self.folder)


@dataclass(frozen=True)
class Pool:
    """Loaded drafters; entries on the same folder share one, with an adapter each.

    Attributes:
        drafters: The engine's drafters, by their entries' key.
        entries: The drafts, by name.
    """

    drafters: Mapping[str, Drafter]
    entries: Mapping[str, DraftEntry]

    def choice(self, name: str | None, draft_length: int) -> DraftChoice | None:
        """What a request carries to use a draft; None for plain decoding."""
        if name is None or draft_length < 1:
            return None
        entry = self.entries[name]
        adapter = None if entry.adapter is None else name
        return DraftChoice(entry.key, draft_length, adapter)


def with_members(names: Iterable[str], known: Mapping[str, DraftEntry]) -> list[DraftEntry]:
    """The named entries and those that they draft with, each once."""
    wanted = dict.fromkeys(names)
    members = (member for name in list(wanted) for member in known[name].members)
    return [known[name] for name in dict.fromkeys((*wanted, *members))]


def load_pool(entries: Sequence[DraftEntry], registry: Registry, target: Target) -> Pool:
    """Load every draft of the entries, among which are those that others draft with.

    Raises:
        PluginError: When a drafter is not installed.
        ModelError: When a draft's files do not fit the target.
    """
    drafters: dict[str, Drafter] = {}
    by_name = {entry.name: entry for entry in entries}
    for entry in entries:
        if entry.key not in drafters:
            drafter_class = registry.get("drafter", entry.plugin.use)
            if not issubclass(drafter_class, Drafter):
                raise PluginError(f"'{entry.plugin.use}' is not a drafter")
            options = make_plugin_options(registry, "drafter", entry.plugin)
            drafters[entry.key] = drafter_class.load(entry.folder, target, options)
        if entry.adapter is not None:
            drafters[entry.key].add_adapter(entry.name, entry.adapter)
    for entry in entries:
        if entry.members:
            own = [by_name[name] for name in entry.members]
            drafters[entry.key].join(
                [Member(drafters[m.key], None if m.adapter is None else m.name) for m in own]
            )
    return Pool(drafters, by_name)
