"""`taskspec new-plugin` writes a distribution that works at once."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from taskspec.cli.main import app
from taskspec.registry import KINDS


def invoke(*arguments: str):
    return CliRunner().invoke(app, ["new-plugin", *arguments])


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_gives_a_complete_distribution(tmp_path: Path, kind: str) -> None:
    place = tmp_path / "new"
    result = invoke(kind, "very-own", "--folder", str(place))
    assert result.exit_code == 0, result.output
    assert f"taskspec check-plugin very-own --kind {kind}" in result.output
    project = tomllib.loads((place / "pyproject.toml").read_text())
    assert project["project"]["entry-points"]["taskspec"] == {
        "taskspec_very_own": "taskspec_very_own"
    }
    for path in place.rglob("*.py"):
        text = path.read_text()
        ast.parse(text)
        assert "MyPlugin" not in text and "my-plugin" not in text
    assert "use: very-own" in (place / "README.md").read_text()


@pytest.mark.parametrize(("kind", "name"), [("router", "router"), ("router", "2nd")])
def test_any_allowed_name_gives_a_class_name(tmp_path: Path, kind: str, name: str) -> None:
    assert invoke(kind, name, "--folder", str(tmp_path / "new")).exit_code == 0
    package = f"taskspec_{name}"
    tree = ast.parse((tmp_path / "new" / package / "router.py").read_text())
    names = [node.name for node in tree.body if isinstance(node, ast.ClassDef)]
    assert names[-1].startswith("My")


@pytest.mark.parametrize(
    ("kind", "name"), [("drafter", "counter"), ("drafter", "proposal"), ("verifier", "verdict")]
)
def test_the_class_hides_nothing_that_its_module_uses(tmp_path: Path, kind: str, name: str) -> None:
    assert invoke(kind, name, "--folder", str(tmp_path / "new")).exit_code == 0
    tree = ast.parse((tmp_path / "new" / f"taskspec_{name}" / f"{kind}.py").read_text())
    names = [node.name for node in tree.body if isinstance(node, ast.ClassDef)]
    assert names[-1] == f"My{name.title()}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("rooter", "mine"), "no plugin kind is named 'rooter'; kinds: "),
        (("router", "My_Router"), "lower case letters and digits joined by dashes"),
        (("router", "logistic"), "has a router named 'logistic' already"),
        (("verifier", "decoding"), "would be the distribution taskspec-decoding"),
        (("drafter", "drafters"), "the package taskspec_drafters, and one of these is installed"),
    ],
)
def test_what_cannot_be_is_refused(
    tmp_path: Path, arguments: tuple[str, str], message: str
) -> None:
    result = invoke(*arguments, "--folder", str(tmp_path / "new"))
    assert result.exit_code == 2 and message in result.output
    assert not (tmp_path / "new").exists()


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "kept.txt").write_text("kept")
    result = invoke("router", "mine", "--folder", str(tmp_path))
    assert result.exit_code == 2 and "exists already" in result.output
    assert [path.name for path in tmp_path.iterdir()] == ["kept.txt"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_it_installs_and_passes_its_own_test(tmp_path: Path, kind: str) -> None:
    place, site = tmp_path / "new", tmp_path / "site"
    assert invoke(kind, "very-own", "--folder", str(place)).exit_code == 0
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    options = ["--no-deps", "--no-index", "--no-build-isolation", "--target", str(site)]
    subprocess.run([*command, *options, str(place)], check=True)
    environment = {**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}
    test = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(place / "tests")]
    subprocess.run(test, env=environment, cwd=tmp_path, check=True)
    taskspec = Path(sys.executable).with_name("taskspec")
    shown = subprocess.run(
        [taskspec, "plugins", "very-own"], env=environment, check=True, capture_output=True
    )
    assert f"{kind} very-own, taskspec-very-own 0.1.0" in shown.stdout.decode()
