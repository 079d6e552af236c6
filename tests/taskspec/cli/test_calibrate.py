"""`taskspec calibrate` on the bundle of a run."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from taskspec.cli.main import app
from taskspec.interfaces import Sampling
from taskspec.serving.bundle import read_manifest


def invoke(*arguments: str) -> Any:
    return CliRunner().invoke(app, list(arguments))


def test_a_bundle_s_lengths_are_chosen_anew_and_written(
    write_recipe: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = write_recipe()
    monkeypatch.chdir(recipe.parent)
    assert invoke("run", recipe.name).exit_code == 0
    bundle = recipe.parent / "runs" / "tiny" / "bundle"
    file = bundle / "bundle.json"
    before = json.loads(file.read_text())
    known = [task for task in before["tasks"] if task["curve"] is not None]
    assert known, "no task was assigned a draft"
    assert before["fallback"]["draft_length"] and before["fallback"]["curve"]
    monkeypatch.setattr("taskspec.serving.calibration.measure_draft", lambda *_: 10.0)
    told = invoke("calibrate", str(bundle), "--corpus", "prompts.jsonl", "--dry-run")
    assert told.exit_code == 0, told.output
    assert json.loads(file.read_text()) == before
    done = invoke("calibrate", str(bundle), "--corpus", "prompts.jsonl")
    assert done.exit_code == 0 and "1.00x" in done.output
    assert json.loads(file.read_text()) == before
    found = read_manifest(bundle)
    assert all(each.draft_length == 0 for each in (*found.tasks, found.fallback))
    # Of an earlier version's, the tasks' are taken.
    (bundle / "calibrated.json").write_text(json.dumps([asdict(each) for each in found.tasks]))
    found = read_manifest(bundle)
    assert all(task.draft_length == 0 for task in found.tasks)
    assert found.fallback.draft_length == before["fallback"]["draft_length"]
    assert invoke("calibrate", str(bundle), "--corpus", "prompts.jsonl").exit_code == 0
    # The run still finds its bundle as it left it.
    assert invoke("run", recipe.name).exit_code == 0
    row = json.loads((recipe.parent / "prompts.jsonl").read_text().splitlines()[0])
    prompt = row["messages"][-1]["content"]
    assert "none (plain decoding)" in invoke("generate", str(bundle), prompt, "--stats").output


@pytest.mark.slow
def test_costs_are_those_of_the_bundle_s_sampling(
    write_recipe: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = write_recipe()
    monkeypatch.chdir(recipe.parent)
    sampled = ("decode.verifier=rejection", "decode.temperature=0.7", "decode.top_k=5")
    assert invoke("run", recipe.name, *sampled).exit_code == 0
    measured = []

    def measure(*arguments: Any) -> float:
        measured.append(arguments[-1])
        return 0.01

    monkeypatch.setattr("taskspec.serving.calibration.measure_draft", measure)
    result = invoke("calibrate", "runs/tiny/bundle", "--corpus", "prompts.jsonl", "--dry-run")
    assert result.exit_code == 0, result.output
    assert measured and set(measured) == {Sampling(0.7, top_k=5)}
    # Any prompt serves to measure with, also one that drafts have learnt.
    trained = [
        line
        for line in Path("prompts.jsonl").read_text().splitlines()
        if json.loads(line)["split"] == "train"
    ]
    Path("known.jsonl").write_text("\n".join(trained))
    common = ("calibrate", "runs/tiny/bundle", "--dry-run", "--corpus")
    assert invoke(*common, "known.jsonl").exit_code == 0
    Path("long.jsonl").write_text(json.dumps({"prompt": "w1 " * 300}))
    result = invoke(*common, "long.jsonl")
    assert result.exit_code == 2 and "give shorter ones with --corpus" in " ".join(
        result.output.split()
    )
