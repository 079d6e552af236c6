"""Every command that answers with a bundle takes its target from where it is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from taskspec.cli.main import app
from taskspec.errors import ArtifactError

COMMANDS = (
    ("generate", "bundle", "Hello"),
    ("answer", "bundle", "prompts.jsonl", "answers.jsonl"),
    ("calibrate", "bundle"),
    ("certify", "bundle"),
    ("bench", "decode", "bundle"),
    ("bench", "corpus", "bundle", "prompts.jsonl"),
)


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with prompts and a bundle, which says where its target is looked for."""

    def load(folder: Path, registry: Any, target: str | None = None, **_: bool) -> None:
        raise ArtifactError(f"looked for {target}")

    monkeypatch.chdir(tmp_path)
    Path("prompts.jsonl").write_text('{"prompt": "Hello"}\n')
    Path("bundle").mkdir()
    Path("bundle", "bundle.json").touch()
    for module in ("taskspec.serving.bundle", "taskspec.pipeline.subject"):
        monkeypatch.setattr(f"{module}.load_bundle", load)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_it_is_looked_for_there(command: tuple[str, ...]) -> None:
    for target, told in (((), "None"), (("--target", "/models/mine"), "/models/mine")):
        result = CliRunner().invoke(app, [*command, *target])
        assert f"looked for {told}" in result.output


def test_a_run_takes_its_recipe_s(tmp_path: Path) -> None:
    Path("run").mkdir()
    Path("run", "recipe.yaml").touch()
    command = ["bench", "corpus", "run", "prompts.jsonl", "--target", "/models/mine"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 2
    assert "--target is for bundles" in " ".join(result.output.split())
