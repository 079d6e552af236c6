"""What a plugin choice counts as in fingerprints."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from taskspec.models.catalog import CATALOG
from taskspec.pipeline.context import RunContext
from taskspec.recipe.choice import PluginChoice
from taskspec.recipe.loading import load_recipe
from taskspec.registry import default_registry


@pytest.fixture
def identity(
    write_recipe: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., dict[str, Any]]:
    """A function that gives the identity of a draft with these options."""
    recipe, registry = write_recipe(), default_registry()
    monkeypatch.chdir(recipe.parent)
    loaded = load_recipe(str(recipe), [], registry)
    context = RunContext(loaded, registry, recipe.parent / "runs", Console())
    return lambda **options: context.plugin_identity(
        "drafter", PluginChoice("causal-lm", dict(options))
    )


def test_a_model_in_a_folder_counts_with_its_weights(identity: Callable[..., Any]) -> None:
    folder = Path("mydraft")
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"first")
    first = identity(model="./mydraft")
    assert first == identity(model="./mydraft")
    (folder / "model.safetensors").write_bytes(b"other")
    assert first != identity(model="./mydraft")


def test_a_model_of_the_catalog_counts_with_its_checksum(identity: Callable[..., Any]) -> None:
    name, entry = next(iter(CATALOG.items()))
    assert identity(model=name)["models"] == {"model": entry.fingerprint}


def test_other_options_count_by_what_they_say(identity: Callable[..., Any]) -> None:
    Path("config.json").write_text("{}")
    for options in ({"layers": 2}, {"model": "some/model"}, {"model": ""}):
        found = identity(**options)
        assert found.keys() == {"use", "options", "provider"} and found["options"] == options
