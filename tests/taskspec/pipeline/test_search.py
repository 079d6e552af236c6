"""A search trains in rounds, drops drafts on the way, says what it did, and can be continued."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from taskspec.pipeline import search
from taskspec.pipeline.align import Align
from taskspec.pipeline.alignment_jobs import Job, bring_up, task_tokens
from taskspec.pipeline.artifacts import read_done
from taskspec.pipeline.assign import load_assignment
from taskspec.pipeline.context import RunContext
from taskspec.pipeline.entries import baseline_entries, task_entries
from taskspec.pipeline.halving import GOES_ON, OUTRANKED
from taskspec.pipeline.report_search import search_shown
from taskspec.pipeline.run import stages
from taskspec.pipeline.run_folder import RunFolder
from taskspec.pipeline.runner import run_stages
from taskspec.pipeline.search_record import (
    AT_HAND,
    TRAINED,
    Round,
    SearchRecord,
    Trial,
    from_json,
    load_search,
    to_json,
)
from taskspec.recipe.loading import load_recipe
from taskspec.registry import default_registry
from taskspec.report.facts import Task

POOL = (
    "draft.pool.tiny={use: causal-lm, options: {layers: 1, vocabulary: 64}}",
    "draft.pool.both={use: cascade, options: {drafts: [lookup, tiny]}}",
    "align.search.rounds=2",
    "align.parity_prompts=1",
)


def run(recipe: Path, *overrides: str, until: str = "assign") -> RunContext:
    """Run a recipe's stages up to one."""
    registry = default_registry()
    settings = [f"runs={recipe.parent / 'runs'}", *POOL, *overrides]
    loaded = load_recipe(str(recipe), settings, registry)
    count = [stage.name for stage in stages()].index(until) + 1
    return run_stages(stages()[:count], loaded, registry, Console(file=io.StringIO()))


def stop_before_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the first training that goes to the end fail."""

    def bring(context: RunContext, folder: Path, job: Job, settings: Any) -> list[str]:
        if not job.part:
            raise KeyboardInterrupt
        return bring_up(context, folder, job, settings)

    monkeypatch.setattr(search, "bring_up", bring)


@pytest.mark.parametrize("aligner", [pytest.param("kd", marks=pytest.mark.slow), "lora-kd"])
def test_a_search_goes_on_with_the_best_and_decides_nothing_twice(
    write_recipe: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, aligner: str
) -> None:
    recipe = write_recipe(aligner)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_before_the_end(patch)
        run(recipe)
    [decided] = (recipe.parent / "runs").rglob("measured.round-1/round.json")
    before = decided.read_bytes()
    context = run(recipe)
    folder = context.stage_folders["align"]
    assert (folder / "measured.round-1/round.json").read_bytes() == before

    record = load_search(folder)
    assert record is not None
    first, last = record.rounds
    for label in (0, 1):
        found = {t.draft: t for t in first.trials if t.label == label}
        assert found.keys() == {"small", "tiny", "lookup", "both"}
        assert {found[name].verdict for name in ("lookup", "both")} == {AT_HAND}
        assert all(t.predicted is None or 0 < t.predicted <= 10 for t in found.values())
        assert all((t.tokens > 0) == (t.draft in ("small", "tiny")) for t in found.values())
        verdicts = {name: found[name].verdict for name in ("small", "tiny")}
        kept = [name for name, verdict in verdicts.items() if verdict == GOES_ON]
        assert [(t.draft, t.verdict) for t in last.trials if t.label == label] == [
            (name, TRAINED) for name in kept
        ]
        assert len(kept) <= 1
        competing = {entry.name.partition("@")[0] for entry in task_entries(context, label)}
        assert competing == {"lookup", *kept} | ({"both"} if "tiny" in kept else set())
    assert 0 < record.tokens < record.exhaustive
    assert record.measuring > 0

    tasks = [Task(n, f"t{n}", (), 1, 1, None, (), None, 0, (), None) for n in (0, 1)]
    done = read_done(folder)
    assert done is not None
    shown = search_shown(RunFolder(context.folder, {"align": folder}, {"align": done}), tasks)
    assert shown is not None and (shown.tokens, shown.seconds) == (record.tokens, record.seconds)
    assert len(shown.tried) == 8 and sum(each.tokens for each in shown.tried) == shown.tokens
    assert all(len(each.promises) == 1 for each in shown.tried)
    assert {(t.task.label, t.draft) for t in shown.tried if t.kept} == {
        (trial.label, trial.draft) for trial in last.trials
    }

    summary = (folder / "summary.txt").read_text()
    assert "search over 2 drafts" in summary and "after round 1" in summary
    assert not list(folder.rglob("weights.safetensors"))
    assert list(folder.glob("tiny@task-0.round-1/training/log/metrics.csv"))
    leader = record.leader(["small", "tiny"])
    assert [path.name for path in folder.glob("*@single")] == [f"{leader}@single"]
    assert baseline_entries(context)["single"].name == f"{leader}@single"
    assigned = load_assignment(context.stage_folders["assign"])
    assert assigned.fallback.draft == f"{leader}@single"


def test_what_is_measured_in_a_search_belongs_to_it_and_to_nothing_else(
    write_recipe: Callable[..., Path],
) -> None:
    recipe, registry = write_recipe("kd"), default_registry()

    def settings(*overrides: str) -> Any:
        loaded = load_recipe(str(recipe), [*POOL, *overrides], registry)
        return Align().settings(RunContext(loaded, registry, recipe.parent, Console()))

    assert settings() != settings("assign.draft_lengths=[1]")
    assert settings() == settings("assign.margin=1.5")
    all_trained = "align.search.rounds=1"
    assert "search" not in json.dumps(settings(all_trained))
    assert settings(all_trained) == settings(all_trained, "assign.draft_lengths=[1]")
    assert "search" not in settings("draft.pool.tiny=null", "draft.pool.both=null")


def test_a_limit_shortens_every_training_alike(write_recipe: Callable[..., Path]) -> None:
    recipe, registry = write_recipe("kd"), default_registry()

    def tokens(*overrides: str) -> int:
        loaded = load_recipe(str(recipe), [*POOL, *overrides], registry)
        return task_tokens(RunContext(loaded, registry, recipe.parent, Console()), tasks=2)

    assert tokens() == 400
    # Two starts of 400, for each task 200 once and 100 once more, and 400 of the one that stays.
    whole = 2 * 400 + 2 * (100 + 100 + 100) + 400
    assert tokens(f"align.search.tokens={whole}") == 400
    assert tokens(f"align.search.tokens={whole // 2}") == 200
    assert tokens(f"align.search.tokens={whole // 2}", "align.search.rounds=1") == 400


def test_the_leader_promises_most_over_the_tasks_that_kept_it() -> None:
    def trial(label: int, draft: str, verdict: str, predicted: float) -> Trial:
        return Trial(label, draft, verdict, 10, 1.0, 2, 1.5, predicted, 3.0)

    record = SearchRecord(
        100,
        (
            Round(
                (
                    trial(0, "a", OUTRANKED, 1.4),
                    trial(0, "b", GOES_ON, 1.5),
                    trial(1, "a", GOES_ON, 1.3),
                    trial(1, "b", OUTRANKED, 1.2),
                    trial(1, "c", AT_HAND, 1.9),
                ),
                2.0,
            ),
            Round((Trial(0, "b", TRAINED, 30, 3.0), Trial(1, "a", TRAINED, 30, 3.0))),
        ),
    )
    assert record.leader(["a", "b"]) == "b"
    assert record.dropped(0) == {"a": 1} and record.dropped(1) == {"b": 1}
    assert (record.tokens, record.seconds, record.measuring) == (110, 11.0, 2.0)
    assert from_json(json.loads(json.dumps(to_json(record)))) == record
