"""Where a corpus path leads."""

import pytest

from taskspec.errors import CorpusError
from taskspec.recipe.corpus_path import absolute_corpus, corpus_digest, resolve_corpus


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """Two folders; the second is the working directory."""
    for name in ("recipe", "working"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "working")
    return tmp_path / "recipe", tmp_path / "working"


def test_the_recipes_folder_comes_before_the_working_directory(elsewhere):
    recipe, working = elsewhere
    (working / "a.jsonl").write_text("working")
    assert resolve_corpus("a.jsonl", recipe).read_text() == "working"
    (recipe / "a.jsonl").write_text("recipe")
    assert resolve_corpus("a.jsonl", recipe).read_text() == "recipe"
    assert resolve_corpus("a.jsonl", None).read_text() == "working"


def test_an_absolute_path_leads_to_the_same_file_from_anywhere(elsewhere, monkeypatch):
    recipe, working = elsewhere
    for folder in elsewhere:
        (folder / "a.jsonl").write_text(folder.name)
    path = absolute_corpus("a.jsonl", recipe)
    monkeypatch.chdir(recipe.parent)
    assert resolve_corpus(path, working).read_text() == "recipe"
    assert absolute_corpus("package:quickstart.yaml", recipe) == "package:quickstart.yaml"


def test_shipped_prompts_are_named_by_package(elsewhere):
    assert resolve_corpus("package:quickstart.yaml", None).is_file()


@pytest.mark.parametrize("path", ["package:none.jsonl", "package:", "none.jsonl", "/none.jsonl"])
def test_missing_files_are_named(elsewhere, path):
    with pytest.raises(CorpusError, match=path):
        resolve_corpus(path, elsewhere[0])


def test_folders_are_no_prompts(elsewhere):
    (elsewhere[0] / "prompts").mkdir()
    with pytest.raises(CorpusError, match="no file prompts"):
        resolve_corpus("prompts", elsewhere[0])


def test_the_digest_follows_the_content(tmp_path):
    first, same, other = (tmp_path / name for name in "abc")
    first.write_text("x")
    same.write_text("x")
    other.write_text("y")
    assert corpus_digest(first) == corpus_digest(same) != corpus_digest(other)
