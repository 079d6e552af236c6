"""A known task is left out, and its prompts are answered by what is left."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from taskspec.cli.main import app
from taskspec.evaluation.matrix import Timing
from taskspec.pipeline.bench_leave_one_out import _common
from taskspec.pipeline.left_out import _run_name

METHODS = ["plain", "routed"] + [
    f"routed, {how}" for how in ("corrected", "experienced", "quarantined", "remembered", "both")
]


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


@pytest.mark.slow
def test_held_out_prompts_of_the_task_are_answered_in_every_way(recipe: str) -> None:
    settings = ("evaluate.repeats=1", "draft.pool.suffix=suffix", "assign.drafts=[suffix]")
    command = ("bench", "leave-one-out", recipe, *settings, "--task", "low")
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


def test_tasks_whose_names_are_nearly_the_same_have_runs_of_their_own() -> None:
    names = [_run_name("mine", task) for task in ("c", "c#", "c++", "c+", "c-")]
    assert len(set(names)) == len(names) and names[0] == "mine-without-c"
    assert all(re.fullmatch(r"[\w.-]+", name) for name in names)


def test_a_way_that_one_task_lacks_is_left_out_and_named() -> None:
    def timing(prompt: str, method: str) -> Timing:
        return Timing(prompt, method, 0, 4, 1.0, (), 0, False)

    timings = [timing("1", "routed"), timing("2", "routed"), timing("1", "routed, quarantined")]
    methods, notes = _common(timings, {"1": "a", "2": "b"}, ["a", "b"])
    assert methods == ["routed"]
    assert notes == ["routed, quarantined is left out: not measured on b"]
