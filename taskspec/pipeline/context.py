"""What every stage of a run is given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from taskspec.recipe.choice import PluginChoice
from taskspec.recipe.loading import LoadedRecipe
from taskspec.recipe.model_path import is_model_folder
from taskspec.recipe.schema import Recipe
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
        writes: Whether this process writes the run's folder; of several that work together only
            the first one does.
        failed_observers: Entry points whose observers failed, and were named to the user.
    """

    loaded: LoadedRecipe
    registry: Registry
    folder: Path
    console: Console
    stage_folders: dict[str, Path] = field(default_factory=dict)
    writes: bool = True
    failed_observers: set[str] = field(default_factory=set)

    @property
    def recipe(self) -> Recipe:
        """The validated recipe."""
        return self.loaded.recipe

    @cached_property
    def target(self) -> LanguageModel:
        """The target model in the recipe's dtype, loaded on first use."""
        from taskspec.models.loading import load_language_model
        from taskspec.training.processes import this_process

        config = self.recipe.target
        process, device = this_process(), config.device
        if process.world > 1 and device in ("auto", "cuda") and _sees_gpus():
            device = f"cuda:{process.local}"
        return load_language_model(config.model, config.dtype, device)

    @cached_property
    def target_in_float32(self) -> LanguageModel:
        """The same weights in float32, where results are exact; copied on first use."""
        return self.target.in_float32()

    def plugin_identity(self, kind: str, choice: PluginChoice) -> dict[str, Any]:
        """A plugin choice with the version of its provider, for fingerprints.

        Options that name a model count with its weights, too.
        """
        record = self.registry.record(kind, choice.use)
        models = _models(choice.options)
        return {
            "use": choice.use,
            "options": choice.options,
            "provider": f"{record.distribution} {record.version}",
            **({"models": models} if models else {}),
        }


def _models(options: Mapping[str, Any]) -> dict[str, str]:
    """Fingerprints of the models that options name: of the catalog, or folders."""
    from taskspec.models.catalog import CATALOG
    from taskspec.models.fingerprint import model_fingerprint

    return {
        name: model_fingerprint(value)
        for name, value in options.items()
        if isinstance(value, str) and (value in CATALOG or is_model_folder(value))
    }


def _sees_gpus() -> bool:
    import torch

    return torch.cuda.is_available()


def plain(config: Any) -> dict[str, Any]:
    """A configuration dataclass as JSON-serialisable values."""
    return asdict(config)
