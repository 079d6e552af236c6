"""What every stage of a run is given."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from taskspec.recipe.loading import LoadedRecipe
from taskspec.recipe.schema import PluginChoice, Recipe
from taskspec.registry import Registry

if TYPE_CHECKING:
    from taskspec.models.loading import LanguageModel


@dataclass
class RunContext:
    """One run: its recipe, its folder, and the target once somebody needs it.

    Attributes:
        loaded: The recipe as loaded and checked.
        registry: The plugins.
        folder: The run's folder.
        console: Where progress is shown.
        stage_folders: Folder of each stage, by name, in order.
    """

    loaded: LoadedRecipe
    registry: Registry
    folder: Path
    console: Console
    stage_folders: dict[str, Path] = field(default_factory=dict)

    @property
    def recipe(self) -> Recipe:
        """The validated recipe."""
        return self.loaded.recipe

    @cached_property
    def target(self) -> LanguageModel:
        """The target model in the recipe's dtype, loaded on first use."""
        from taskspec.models.loading import load_language_model

        config = self.recipe.target
        return load_language_model(config.model, config.dtype, config.device)

    def plugin_identity(self, kind: str, choice: PluginChoice) -> dict[str, Any]:
        """A plugin choice with the version of its provider, for fingerprints."""
        record = self.registry.record(kind, choice.use)
        return {
            "use": choice.use,
            "options": choice.options,
            "provider": f"{record.distribution} {record.version}",
        }


def plain(config: Any) -> dict[str, Any]:
    """A configuration dataclass as JSON-serialisable values."""
    return asdict(config)
