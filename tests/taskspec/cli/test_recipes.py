"""`taskspec recipes` and `taskspec copy`."""

import pytest
from typer.testing import CliRunner

from taskspec.cli.main import app
from taskspec.recipe.lookup import list_recipes
from taskspec.registry import default_registry


@pytest.fixture
def invoke(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(app, list(arguments))


def test_recipes_are_listed_with_what_they_do(invoke):
    lines = invoke("recipes").output.splitlines()
    assert any(line.startswith("quickstart  ") for line in lines)
    assert all(line.endswith("(taskspec)") for line in lines)


def test_every_shipped_recipe_validates_and_says_what_it_needs(invoke):
    for recipe in list_recipes(default_registry()):
        result = invoke("validate", recipe.name)
        assert result.exit_code == 0, result.output
        assert recipe.name == "quickstart" or "Memory:" in recipe.file.read_text()


@pytest.mark.parametrize(
    ("arguments", "file"),
    [([], "quickstart.yaml"), (["my.yaml"], "my.yaml"), (["sub"], "sub/quickstart.yaml")],
    ids=["here", "to a file", "into a folder"],
)
def test_a_copy_is_a_recipe_that_validates(invoke, tmp_path, arguments, file):
    (tmp_path / "sub").mkdir()
    result = invoke("copy", "quickstart", *arguments)
    assert result.exit_code == 0
    assert f"wrote {file}" in result.output
    assert invoke("validate", file).exit_code == 0


def test_nothing_is_overwritten(invoke, tmp_path):
    (tmp_path / "quickstart.yaml").write_text("mine")
    result = invoke("copy", "quickstart")
    assert result.exit_code == 2
    assert "quickstart.yaml exists; name another file" in result.output
    assert (tmp_path / "quickstart.yaml").read_text() == "mine"


def test_a_folder_that_does_not_exist_is_named(invoke):
    result = invoke("copy", "quickstart", "none/my.yaml")
    assert result.exit_code == 2
    assert "none is no folder; make it first" in result.output


def test_only_shipped_recipes_are_copied(invoke, tmp_path):
    (tmp_path / "mine.yaml").write_text("name: mine\n")
    result = invoke("copy", "mine.yaml")
    assert result.exit_code == 2
    assert "no shipped recipe of that name" in result.output
