"""A bundle that is not whole is told with its mend."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from taskspec.errors import ArtifactError
from taskspec.pipeline.run import run_recipe
from taskspec.recipe.loading import load_recipe
from taskspec.registry import default_registry
from taskspec.serving.bundle import load_bundle

PLACES = (
    *("encoder/terms.json", "encoder/tfidf.safetensors", "router/logistic.safetensors"),
    *("known.safetensors", "drafts/**/model.safetensors"),
)


@pytest.fixture
def bundle(write_recipe: Callable[..., Path]) -> Path:
    recipe, registry = write_recipe(), default_registry()
    changes = ["align.enabled=false", "evaluate.repeats=1", "draft.pool.lookup=null"]
    loaded = load_recipe(str(recipe), [f"runs={recipe.parent / 'runs'}", *changes], registry)
    return run_recipe(loaded, registry, Console(file=io.StringIO())).folder / "bundle"


def test_what_is_missing_cut_short_or_damaged_is_told(bundle: Path) -> None:
    registry = default_registry()
    told = f"{bundle} is not whole .*; copy it again or run its recipe again"
    for pattern in PLACES:
        path = next(bundle.glob(pattern))
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(ArtifactError, match=told):
            load_bundle(bundle, registry)
        path.unlink()
        # Not every encoder's bundle has known prompts; a draft that is missing says so itself.
        if path.parent.name in ("encoder", "router"):
            with pytest.raises(ArtifactError, match=told):
                load_bundle(bundle, registry)
        path.write_bytes(whole)
    for text in ("[{", "[{}]"):
        (bundle / "calibrated.json").write_text(text)
        with pytest.raises(ArtifactError, match=r"calibrated\.json is not whole .*; remove it and"):
            load_bundle(bundle, registry)
    (bundle / "calibrated.json").unlink()
    load_bundle(bundle, registry)
