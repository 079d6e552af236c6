"""Temperatures and seeds that nothing can be drawn with are refused before any work."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from taskspec.cli.main import app

ANSWERING = (("generate", "bundle", "Hello"), ("answer", "bundle", "prompts.jsonl", "out.jsonl"))
DRAWING = (
    *ANSWERING,
    ("certify", "bundle"),
    ("bench", "decode", "bundle"),
    ("bench", "corpus", "bundle", "prompts.jsonl"),
)


def refused(command: tuple[str, ...], *options: str) -> str:
    result = CliRunner().invoke(app, [*command, *options])
    assert result.exit_code == 2, result.output
    return " ".join(result.output.replace("│", " ").split())


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with prompts, but no bundle."""
    monkeypatch.chdir(tmp_path)
    Path("prompts.jsonl").write_text('{"prompt": "Hello"}\n', encoding="utf-8")


@pytest.mark.parametrize("command", ANSWERING, ids=lambda words: words[0])
@pytest.mark.parametrize("temperature", ["nan", "inf", "-1"])
def test_a_temperature_is_a_number(command: tuple[str, ...], temperature: str) -> None:
    said = refused(command, "--temperature", temperature)
    assert f"temperature must be 0 (greedy) or a positive number, not {temperature}" in said
    assert "is not a bundle" in refused(command, "--temperature", "0.5")


@pytest.mark.parametrize("command", DRAWING, ids=" ".join)
@pytest.mark.parametrize("seed", ["99999999999999999999", "-1"])
def test_a_seed_is_in_range(command: tuple[str, ...], seed: str) -> None:
    assert "Invalid value for '--seed'" in refused(command, "--seed", seed)
