"""The drafts of a run or bundle, loaded for the engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from taskspec.decoding.records import DraftChoice
from taskspec.errors import PluginError
from taskspec.interfaces import Drafter, Target
from taskspec.recipe.plugins import make_plugin_options
from taskspec.recipe.schema import PluginChoice
from taskspec.registry import Registry


@dataclass(frozen=True)
class DraftEntry:
    """One draft that requests may use.

    Attributes:
        name: Unique name, such as `small@task-0`.
        plugin: The drafter plugin and its options.
        folder: What the drafter loads.
        adapter: PEFT folder on top of it, or None for the drafter itself.
    """

    name: str
    plugin: PluginChoice
    folder: Path
    adapter: Path | None = None


@dataclass(frozen=True)
class Pool:
    """Loaded drafters; entries on the same folder share one, with an adapter each.

    Attributes:
        drafters: The engine's drafters, by their folder's path.
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
        return DraftChoice(str(entry.folder), draft_length, adapter)


def load_pool(entries: Sequence[DraftEntry], registry: Registry, target: Target) -> Pool:
    """Load every draft of the entries.

    Raises:
        PluginError: When a drafter is not installed.
        ModelError: When a draft's files do not fit the target.
    """
    drafters: dict[str, Drafter] = {}
    for entry in entries:
        key = str(entry.folder)
        if key not in drafters:
            drafter_class = registry.get("drafter", entry.plugin.use)
            if not issubclass(drafter_class, Drafter):
                raise PluginError(f"'{entry.plugin.use}' is not a drafter")
            options = make_plugin_options(registry, "drafter", entry.plugin)
            drafters[key] = drafter_class.load(entry.folder, target, options)
        if entry.adapter is not None:
            drafters[key].add_adapter(entry.name, entry.adapter)
    return Pool(drafters, {entry.name: entry for entry in entries})
