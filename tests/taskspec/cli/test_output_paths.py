"""Commands refuse a place where they cannot write before they do any work."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from taskspec.cli.main import app


@pytest.mark.parametrize(
    "command",
    [
        ("answer", "bundle", "prompts.jsonl", "results/found"),
        ("answer", "bundle", "prompts.jsonl", "answers.jsonl", "--watch", "results/found"),
        ("bench", "decode", "bundle", "--out", "results/found"),
        ("bench", "train", "--out", "results/found"),
        ("certify", "bundle", "--out", "results/found"),
        ("generate", "bundle", "Hello", "--watch", "results/found"),
        ("report", "run", "other", "--out", "results/found"),
    ],
    ids=" ".join,
)
def test_a_missing_folder_is_found_at_once(
    command: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, list(command))
    # There is no bundle, run or prompt here either: the command has not looked for them yet.
    assert result.exit_code == 2, result.output
    assert "results is no folder; make it" in " ".join(result.output.split())
    assert not list(tmp_path.iterdir())
