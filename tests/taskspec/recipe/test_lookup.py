"""Finding recipes by path and by name."""

import pytest

from taskspec.errors import RecipeError
from taskspec.recipe.loading import load_recipe
from taskspec.recipe.lookup import find_recipe, find_shipped, list_recipes


@pytest.fixture
def acme(tmp_path, minimal):
    """A folder of recipes that the distribution `acme` ships."""
    folder = tmp_path / "acme"
    folder.mkdir()
    (folder / "fast.yaml").write_text(f"# As fast as it gets.\n# More.\n{minimal}")
    (folder / "plain.yaml").write_text(minimal)
    (folder / "notes.txt").write_text("no recipe")
    (folder / "prompts.jsonl").touch()
    return folder


def test_lists_names_providers_and_first_comment_lines(registry_with_recipes, acme):
    found = {
        (recipe.name, recipe.provider, recipe.summary)
        for recipe in list_recipes(registry_with_recipes({"acme": acme}))
        if recipe.provider == "acme"
    }
    assert found == {("fast", "acme", "As fast as it gets."), ("plain", "acme", "")}


def test_taskspecs_own_recipes_come_first_and_say_what_they_do(registry_with_recipes, acme):
    own = list_recipes(registry_with_recipes({"acme": acme}))[0]
    assert own.provider == "taskspec"
    assert own.summary


def test_a_listed_recipe_in_another_encoding_hides_no_others(registry_with_recipes, acme):
    (acme / "odd.yaml").write_bytes(b"# caf\xe9\n")
    names = [recipe.name for recipe in list_recipes(registry_with_recipes({"acme": acme}))]
    assert {"odd", "fast"} <= set(names)


def test_shipped_recipes_load_by_name_with_the_prompts_beside_them(registry_with_recipes, acme):
    loaded = load_recipe("fast", [], registry_with_recipes({"acme": acme}))
    assert (loaded.recipe.name, loaded.source) == ("trial", "fast")


def test_problems_of_a_shipped_recipe_name_its_file(registry_with_recipes, acme):
    (acme / "plain.yaml").write_text("name: [\n")
    with pytest.raises(RecipeError, match=r"^plain\.yaml:2 recipe: not valid YAML"):
        load_recipe("plain", [], registry_with_recipes({"acme": acme}))


def test_a_file_comes_before_a_shipped_recipe(registry_with_recipes, acme, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "fast").write_text("name: mine\n")
    registry = registry_with_recipes({"acme": acme})
    assert find_recipe("fast", registry).read_text() == "name: mine\n"
    assert find_shipped("fast", registry).file.name == "fast.yaml"


@pytest.mark.parametrize("asked", ["fas", "fast.yaml", "recipes/fast.yaml"])
def test_unknown_names_are_answered_with_a_near_one(registry_with_recipes, acme, asked):
    with pytest.raises(RecipeError, match=r"no such file.*Did you mean 'fast'\? Shipped: .*plain"):
        find_recipe(asked, registry_with_recipes({"acme": acme}))


def test_a_name_that_two_distributions_ship_belongs_to_neither(registry_with_recipes, acme):
    registry = registry_with_recipes({"acme": acme, "bolt": acme})
    with pytest.raises(RecipeError, match=r"shipped by acme and bolt; give the path of one"):
        find_recipe("fast", registry)
