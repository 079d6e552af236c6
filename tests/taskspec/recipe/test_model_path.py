"""Models in folders are found from anywhere; other names stay as they are."""

import dataclasses

import pytest

from taskspec.recipe.choice import PluginChoice
from taskspec.recipe.loading import load_recipe
from taskspec.recipe.model_path import with_absolute_models
from taskspec.recipe.schema import CorpusConfig, DraftConfig, Recipe, RouteConfig, TargetConfig

RECIPE = """\
name: tiny
target: {model: ./mine}
corpus: {path: prompts.jsonl}
draft: {pool: {small: {use: cut, options: {layers: 2}}}}
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A folder with a model in the working directory."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    return folder


def recipe(model):
    return Recipe(
        name="tiny",
        target=TargetConfig(model),
        corpus=CorpusConfig("prompts.jsonl"),
        draft=DraftConfig({"small": PluginChoice("cut", {"model": model, "layers": 2})}),
        route=RouteConfig(encoder=PluginChoice("sentence", {"model": model})),
    )


def test_wherever_a_folder_is_named_its_path_becomes_absolute(mine):
    assert with_absolute_models(recipe("./mine")) == recipe(str(mine))


@pytest.mark.parametrize("name", ["mine", "some/model", "./prompts", "smollm2-135m-instruct"])
def test_names_of_catalog_and_hub_stay(mine, name):
    mine.with_name("prompts").mkdir()
    assert with_absolute_models(recipe(name)) == recipe(name)


def test_a_run_s_recipe_is_the_same_from_elsewhere(mine, registry, monkeypatch):
    (mine.parent / "prompts.jsonl").touch()
    file = mine.parent / "tiny.yaml"
    file.write_text(RECIPE)
    loaded = load_recipe(str(file), [], registry)
    assert loaded.recipe.target.model == str(mine)
    file.write_text(loaded.text)
    monkeypatch.chdir(mine)
    again = load_recipe(str(file), [], registry)
    assert again.text == loaded.text
    assert again.recipe == dataclasses.replace(loaded.recipe, corpus=again.recipe.corpus)
