"""What README and docs show is true: code runs, recipes validate, commands exist."""

from __future__ import annotations

import json
import re
import shlex
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from taskspec.cli.main import COMMANDS, app
from taskspec.recipe.loading import load_recipe
from taskspec.recipe.plugins import make_plugin
from taskspec.recipe.schema import PluginChoice
from taskspec.registry import Registry, default_registry

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a language on a page."""
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


def commands(page: Path) -> list[list[str]]:
    """Words of every `taskspec` command on a page."""
    lines = [line for block in blocks(page, "bash") for line in block.splitlines()]
    words = [shlex.split(line.replace(".venv/bin/", "")) for line in lines]
    return [each for each in words if each and each[0] == "taskspec"]


def write_prompts(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a folder that holds `prompts.jsonl`."""
    monkeypatch.chdir(folder)
    splits = ["train", "train", "validation", "test"]
    rows = [{"prompt": f"w{number}", "split": split} for number, split in enumerate(splits)]
    Path("prompts.jsonl").write_text("\n".join(map(json.dumps, rows)))


@pytest.fixture
def registry_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A function that installs a module's text as a stranger's plugin module."""

    def install(name: str, text: str) -> Registry:
        (tmp_path / f"{name}.py").write_text(text)
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, name, raising=False)
        return Registry([EntryPoint(name, name, "taskspec")])

    return install


def test_the_readme_s_plugin_is_a_working_router_of_20_lines(registry_with, tmp_path) -> None:
    [text] = blocks(ROOT / "README.md", "python")
    lines = [line for line in text.splitlines() if line.strip() and "import " not in line]
    assert len(lines) <= 20
    registry = registry_with("readme_plugin", text)
    assert not registry.failures
    router = make_plugin(registry, "router", PluginChoice("acme-centroid"))
    vectors = np.eye(3, dtype=np.float32)
    router.fit(vectors, np.arange(3), seed=0)
    folder = tmp_path / "router"
    folder.mkdir()
    router.save(folder)
    probabilities = type(router).load(folder, router.options).predict_proba(vectors)
    assert probabilities.argmax(axis=1).tolist() == [0, 1, 2]
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-6)


def test_the_docs_plugins_load_and_the_verifier_keeps_greedy_answers(registry_with) -> None:
    verifier_text, observer_text = blocks(ROOT / "docs" / "plugins.md", "python")
    registry = registry_with("docs_verifier", verifier_text)
    assert not registry.failures
    verifier = make_plugin(registry, "verifier", PluginChoice("acme-capped", {"most": 1}))
    target = torch.eye(4)[[2, 3, 1]][None]  # the target says 2, 3, 1
    drafted, lengths = torch.tensor([[2, 3]]), torch.tensor([2])
    verdict = verifier.verify(drafted, lengths, None, target, torch.zeros(1, 3))
    assert (verdict.accepted.item(), verdict.next_token.item()) == (1, 3)
    assert not registry_with("docs_observer", observer_text).failures


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_exists_and_every_override_is_a_key(page, tmp_path, monkeypatch) -> None:
    names = {command.__name__ for command in COMMANDS}
    write_prompts(tmp_path, monkeypatch)
    for words in commands(page):
        assert words[1] in names, words
        if words[1] == "run":
            overrides = [word for word in words[3:] if "=" in word]
            load_recipe("quickstart", overrides, default_registry())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_recipe_shown_validates(page, tmp_path, monkeypatch) -> None:
    write_prompts(tmp_path, monkeypatch)
    smallest = blocks(ROOT / "docs" / "recipes.md", "yaml")[0]
    for block in blocks(page, "yaml"):
        Path("my.yaml").write_text(block if "name:" in block else f"{smallest}\n{block}")
        result = CliRunner().invoke(app, ["validate", "my.yaml"])
        assert result.exit_code == 0, result.output


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / link).exists(), link
