"""An option that could have no effect, or no meaning, is refused before any work."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from taskspec.cli.main import app


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (("generate", "bundle", "Hello", "--watch-prompts"), "add --watch FILE"),
        (("answer", "bundle", "prompts.jsonl", "out", "--watch-prompts"), "add --watch FILE"),
        (("bench", "train", "--precision", "fp16"), "--precision: precision must be one of"),
        (("bench", "train", "--repeats", "0"), "--repeats"),
        (("bench", "train", "--batch-tokens", "8"), "--batch-tokens"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_it_is_refused(
    command: tuple[str, ...], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("prompts.jsonl").write_text('{"prompt": "Hello"}\n')
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 2
    assert told in " ".join(result.output.split())
