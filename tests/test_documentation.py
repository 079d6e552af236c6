"""What README and docs show is true: code runs, recipes validate, commands exist."""

from __future__ import annotations

import json
import re
import shlex
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from taskspec.cli.main import COMMANDS, app
from taskspec.recipe.choice import PluginChoice
from taskspec.recipe.loading import load_recipe
from taskspec.recipe.plugins import make_plugin
from taskspec.registry import KINDS, Registry, default_registry

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


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


@pytest.fixture
def documented_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A function that makes the package that a kind's page shows importable; its name."""

    def make(kind: str) -> str:
        code, hook = blocks(ROOT / "docs" / "kinds" / f"{kind}.md", "python")
        package = f"taskspec_my_{kind}"
        (tmp_path / package).mkdir()
        (tmp_path / package / f"{kind}.py").write_text(code)
        (tmp_path / package / "__init__.py").write_text(hook)
        monkeypatch.syspath_prepend(tmp_path)
        for module in (package, f"{package}.{kind}"):
            monkeypatch.delitem(sys.modules, module, raising=False)
        return package

    return make


@pytest.mark.parametrize("kind", KINDS)
def test_each_kinds_page_shows_a_plugin_that_loads(documented_package, kind: str) -> None:
    package = documented_package(kind)
    registry = Registry([EntryPoint("mine", package, "taskspec")])
    assert not registry.failures
    plugin = make_plugin(registry, kind, PluginChoice(f"my-{kind}"))
    assert plugin.name == f"my-{kind}"


@pytest.mark.parametrize("kind", KINDS)
def test_the_plugin_on_each_kinds_page_is_what_new_plugin_writes(kind: str, tmp_path) -> None:
    command = ["new-plugin", kind, f"my-{kind}", "--folder", str(tmp_path / "new")]
    assert CliRunner().invoke(app, command).exit_code == 0
    [code] = (tmp_path / "new").glob(f"*/{kind}.py")
    page = ROOT / "docs" / "kinds" / f"{kind}.md"
    assert blocks(page, "python")[0] == code.read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", KINDS)
def test_each_kinds_page_lists_every_built_in(kind: str) -> None:
    page = (ROOT / "docs" / "kinds" / f"{kind}.md").read_text(encoding="utf-8")
    for record in default_registry().plugins():
        if record.kind == kind and record.distribution == "taskspec-decoding":
            assert f"| `{record.name}` |" in page


def test_the_test_shown_runs_the_kit(documented_package, registry_with) -> None:
    documented_package("router")
    kit, observer = blocks(ROOT / "docs" / "plugins.md", "python")
    shown: dict[str, Any] = {}
    exec(kit, shown)
    [mark] = shown["test_contract"].pytestmark
    assert len(mark.args[1]) > 10
    plugin, check = mark.args[1][0].values
    shown["test_contract"](plugin, check)
    assert not registry_with("docs_observer", observer).failures


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_exists_and_every_override_is_a_key(page, tmp_path, monkeypatch) -> None:
    names = {command.__name__.replace("_", "-") for command in COMMANDS}
    names |= {group.name for group in app.registered_groups}
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


@pytest.mark.slow
def test_programs_that_learn_from_what_they_answer_run(write_recipe, monkeypatch, capsys) -> None:
    corrects, remembers = blocks(ROOT / "docs" / "recipes.md", "python")
    path = write_recipe("kd")
    monkeypatch.chdir(path.parent)
    settings = ["draft.pool.suffix=suffix", "assign.drafts=[suffix]", "route.threshold=1"]
    arguments = ["run", path.name, "name=mine", *settings]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    capsys.readouterr()
    names: dict[str, Any] = {}
    exec(compile(corrects, "recipes.md", "exec"), names)
    assert capsys.readouterr().out and names["correction"].experience._estimates
    exec(compile(remembers, "recipes.md", "exec"), names)
    assert capsys.readouterr().out
    assert any(each._served._kept for own in names["memory"].learners.values() for each in own)
