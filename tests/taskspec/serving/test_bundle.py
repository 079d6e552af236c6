"""A bundle that is not whole is told with its mend."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
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


def test_the_same_weights_are_taken_from_elsewhere_and_others_are_not(
    bundle: Path, tiny_llama_folder: Path, tiny_qwen2_folder: Path, tmp_path: Path
) -> None:
    registry = default_registry()
    elsewhere = shutil.copytree(tiny_llama_folder, tmp_path / "elsewhere")
    (elsewhere / "notes.json").write_text("{}")
    assert load_bundle(bundle, registry, str(elsewhere)).target.source == str(elsewhere)
    with pytest.raises(ArtifactError, match="does not hold the weights this bundle was made for"):
        load_bundle(bundle, registry, str(tiny_qwen2_folder))
    # An earlier version's bundle knows files alone.
    file = bundle / "bundle.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"target_digest": None}))
    load_bundle(bundle, registry)
    with pytest.raises(ArtifactError, match="does not hold the weights"):
        load_bundle(bundle, registry, str(elsewhere))
    # A device that is not here is replaced by what is.
    file.write_text(json.dumps(json.loads(file.read_text()) | {"device": "cuda:99"}))
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    assert load_bundle(bundle, registry).target.device.type == expected


def test_weights_that_changed_behind_a_hub_id_are_refused(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry, file = default_registry(), bundle / "bundle.json"
    monkeypatch.setattr("taskspec.models.loading.model_fingerprint", lambda _: "hub:some/model")
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: None)
    made = json.loads(file.read_text()) | {"target_fingerprint": "hub:some/model"}
    file.write_text(json.dumps(made))
    load_bundle(bundle, registry)
    file.write_text(json.dumps(made | {"target_digest": "0123"}))
    with pytest.raises(ArtifactError, match="does not hold the weights"):
        load_bundle(bundle, registry)
