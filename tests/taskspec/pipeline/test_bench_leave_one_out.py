"""A known task is left out, and its prompts are answered by what is left."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from taskspec.cli.main import app

METHODS = ["plain", "routed", "routed, corrected", "routed, quarantined"]


def invoke(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == code, result.output
    return " ".join(result.output.split())


@pytest.fixture
def recipe(write_recipe: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> str:
    """The tiny recipe; commands run beside it."""
    path = write_recipe("kd")
    monkeypatch.chdir(path.parent)
    return path.name


def test_held_out_prompts_of_the_task_are_answered_in_every_way(recipe: str) -> None:
    command = ("bench", "leave-one-out", recipe, "evaluate.repeats=1", "--task", "low")
    said = invoke(*command, "--out", "found")
    assert "low: " in said and "prompts lie beyond those of the other tasks" in said
    found = json.loads(Path("found/results.json").read_text())
    assert list(dict.fromkeys(row["method"] for row in found["rows"])) == METHODS
    assert {row["task"] for row in found["rows"]} == {"low", "all"}
    assert all(each.startswith("low-test-") for each in found["prompts"])
    assert len({row["tokens"] for row in found["rows"]}) == 1, "no way may change an answer"
    assert {row["method"] for row in found["beside"]} == {*METHODS} - {"routed"}
    tasks = json.loads(Path("runs/tiny-without-low/stages/03-partition/tasks.json").read_text())
    assert all(name.startswith("high") for name in tasks["labels"])

    before = Path("found/results.json").stat().st_mtime_ns
    assert invoke(*command, "--out", "found").count("finished before") == 8
    assert Path("found/results.json").stat().st_mtime_ns == before


def test_tasks_that_there_are_not_are_refused(recipe: str) -> None:
    said = invoke("bench", "leave-one-out", recipe, "--task", "lwo", code=2)
    assert "no prompt has the task 'lwo'; tasks are: high, low" in said
    rows = [json.loads(line) for line in Path("prompts.jsonl").read_text().splitlines()]
    text = "".join(json.dumps({**row, "task": None}) + "\n" for row in rows)
    Path("prompts.jsonl").write_text(text)
    assert "they name 0" in invoke("bench", "leave-one-out", recipe, code=2)
