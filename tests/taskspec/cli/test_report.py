"""`taskspec report`: pages of finished runs, one message for everything else."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from rich.console import Console
from typer.testing import CliRunner

from taskspec.cli.main import app
from taskspec.pipeline.artifacts import read_done
from taskspec.pipeline.report import gather
from taskspec.pipeline.run import run_recipe
from taskspec.recipe.loading import load_recipe
from taskspec.registry import default_registry
from taskspec.serving.bundle import load_bundle


def report(*arguments: str | Path) -> Result:
    """`taskspec report` within this process."""
    return CliRunner().invoke(app, ["report", *map(str, arguments)])


def refuse(*arguments: str | Path) -> str:
    """What is said to a mistake."""
    result = report(*arguments)
    assert result.exit_code == 2 and isinstance(result.exception, SystemExit)
    assert result.output.count("error:") == 1
    return " ".join(result.output.split())


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    assert "is not a run's folder" in refuse(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_is_not_finished_is_refused(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("name: mine\n")
    (tmp_path / "stages" / ".01-collect.partial").mkdir(parents=True)
    assert "not finished: stage collect" in refuse(tmp_path)


def test_out_is_for_comparisons(tmp_path: Path) -> None:
    assert "--out is for comparisons" in refuse(tmp_path, "--out", tmp_path / "page.html")


@pytest.mark.slow
def test_a_finished_run_has_a_report_and_can_be_compared(write_recipe: Callable[..., Path]) -> None:
    recipe, output = write_recipe(), io.StringIO()
    registry = default_registry()
    loaded = load_recipe(str(recipe), [f"runs={recipe.parent / 'runs'}"], registry)
    folder = run_recipe(loaded, registry, Console(file=output, width=200)).folder
    page = folder / "report.html"
    assert f"report   {page}" in output.getvalue()
    made = page.read_text()

    facts = gather(folder)
    assert sum(task.training for task in facts.tasks) == 32
    assert sum(task.held_out or 0 for task in facts.tasks) == 8
    assert all(task.examples and task.measured for task in facts.tasks)
    assert len(facts.prompts) == facts.prompt_total == 38
    assert {0 <= p.x <= 1 and 0 <= p.y <= 1 for p in facts.prompts} == {True}
    assert facts.routing is not None and facts.routing.source.startswith("held-out")
    assert sum(map(sum, facts.routing.confusion.counts)) == 8
    assert all((stage.resident or 1) > 0 and stage.summary for stage in facts.stages)
    assert {training.draft for training in facts.trainings} == {"small"}
    assert all(training.loss for training in facts.trainings)
    assert all(0 <= rate <= 1 for row in facts.positions for rate in row.rates)
    assert facts.command is None

    page.unlink()
    assert report(folder).exit_code == 0
    again = page.read_text()
    assert again.count("<use") == made.count("<use")

    by_speed = [f"runs={recipe.parent / 'runs'}", "route.labels=speed", "route.threshold=auto"]
    run_recipe(load_recipe(str(recipe), by_speed, registry), registry, Console(file=output))
    facts = gather(folder)
    assert facts.results.router.accuracy is None
    assert facts.labels.labels == "speed" and 0 <= facts.labels.threshold <= 1
    assert [name for name, _ in facts.labels.regrets] == [
        *("by speed", "by task", "with the fallback alone"),
    ]
    assert facts.routing is not None and facts.routing.source.startswith("validation")
    manifest = load_bundle(folder / "bundle", registry).manifest
    assert manifest.route["threshold"] == facts.labels.threshold

    other = folder.with_name("other")
    shutil.copytree(folder, other)
    result = report(folder, other)
    assert result.exit_code == 0
    assert "undecided" in result.output
    assert (other / "compared-with-tiny.html").is_file()
    assert "typo is not a run's folder" in refuse(folder, folder.with_name("typo"))

    evidence = json.loads((folder / "stages/06-assign/assignment.json").read_text())
    for task, written in zip(facts.tasks, evidence["evidence"], strict=True):
        for candidate, own in zip(task.candidates, written, strict=True):
            # S is over a bare pass; plain decoding takes the overhead, too.
            assert candidate.predicted == own["predicted"] * (1 + evidence["overhead"])

    certificate = folder / "bundle" / "certificate.json"
    mark = read_done(folder / "bundle")
    assert mark is not None
    made = mark.result
    value = {"passed": True, "greedy": [], "sampled": [], "faults": []}
    for bundle, verifier in ((made, "typical"), ("another", "greedy"), (made, "greedy")):
        written = {**value, "bundle": bundle, "verifier": {"name": verifier, "rules": []}}
        certificate.write_text(json.dumps(written))
        shown = gather(folder).certificate
        assert (shown is not None) == ((bundle, verifier) == (made, "greedy"))
    certificate.write_text(json.dumps({"greedy": "nothing"}))
    assert "certificate.json is not what taskspec certify writes" in refuse(folder)
    certificate.unlink()

    tasks = other / "stages" / "03-partition" / "tasks.json"
    tasks.write_text(tasks.read_text().replace("0", "1", 1))
    assert "tasks.json was altered" in refuse(other)
    shutil.rmtree(other / "bundle")
    assert "not finished: stage bundle" in refuse(other)


def test_a_run_that_leaves_a_task_out_has_a_report_of_the_others(
    write_recipe: Callable[..., Path],
) -> None:
    recipe, registry = write_recipe("kd"), default_registry()
    changes = ["corpus.leave_out=[low]", "evaluate.repeats=1", "align.enabled=false"]
    loaded = load_recipe(str(recipe), [f"runs={recipe.parent / 'runs'}", *changes], registry)
    folder = run_recipe(loaded, registry, Console(file=io.StringIO())).folder
    assert (folder / "report.html").is_file()
    facts = gather(folder)
    assert len(facts.prompts) == facts.prompt_total == 19
    assert sum(task.training for task in facts.tasks) == 16
    shown = [text for task in facts.tasks for text in task.examples]
    assert shown and all(45 <= int(word[1:]) < 57 for text in shown for word in text.split())
    assert {row.task for row in facts.results.rows} == {"low", "high", "all"}
