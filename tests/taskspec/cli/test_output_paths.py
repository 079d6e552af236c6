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


@pytest.mark.parametrize(
    ("files", "purposes"),
    [
        (("prompts.jsonl",), "for the prompts and for their answers"),
        (("out.jsonl", "--watch", "./prompts.jsonl"), "for the prompts and for the log"),
        (("out.jsonl", "--watch", "linked.jsonl"), "for their answers and for the log"),
    ],
    ids=["answers", "log", "log of answers"],
)
def test_a_file_that_is_read_is_not_written(
    files: tuple[str, ...], purposes: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    prompts = Path("prompts.jsonl")
    prompts.write_text('{"prompt": "Hello"}\n', encoding="utf-8")
    Path("linked.jsonl").symlink_to("out.jsonl")
    result = CliRunner().invoke(app, ["answer", "bundle", "prompts.jsonl", *files])
    said = " ".join(result.output.split())
    assert result.exit_code == 2 and f"{purposes}; name a file for each" in said
    assert prompts.read_text(encoding="utf-8") == '{"prompt": "Hello"}\n'


@pytest.mark.parametrize(
    "command",
    [("answer", "bundle", "prompts.jsonl", "out.jsonl"), ("generate", "bundle", "Hello")],
    ids=lambda words: words[0],
)
def test_a_log_of_answers_is_no_other_file(
    command: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("prompts.jsonl", "corpus.jsonl"):
        Path(name).write_text('{"prompt": "Hello"}\n', encoding="utf-8")
    result = CliRunner().invoke(app, [*command, "--watch", "corpus.jsonl"])
    said = " ".join(result.output.split())
    assert result.exit_code == 2 and "something else than a log of answers" in said
    assert Path("corpus.jsonl").read_text(encoding="utf-8") == '{"prompt": "Hello"}\n'
