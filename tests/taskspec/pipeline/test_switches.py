"""Keys that switch a part of a run off change that part and nothing before it."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from taskspec.corpus.examples import Example
from taskspec.errors import CorpusError
from taskspec.pipeline.answering import load_answers
from taskspec.pipeline.assign import load_assignment, load_costs
from taskspec.pipeline.bundle import Bundle
from taskspec.pipeline.context import RunContext
from taskspec.pipeline.encode import known_examples
from taskspec.pipeline.entries import decode_settings
from taskspec.pipeline.partition import load_tasks, shuffle_labels
from taskspec.pipeline.prompt_speed import PromptSeconds, prompt_seconds
from taskspec.pipeline.routes import load_routes, run_router
from taskspec.pipeline.run import stages
from taskspec.pipeline.runner import run_stages
from taskspec.recipe.loading import load_recipe
from taskspec.registry import default_registry
from taskspec.serving.routing import Assignment

PLAIN = Assignment("plain", None, 0)


@pytest.fixture
def run(write_recipe: Callable[..., Path]) -> Callable[..., tuple[RunContext, list[str]]]:
    """A function that runs the stages up to the router; the context and what was kept."""
    recipe = write_recipe("kd")
    registry = default_registry()

    def run(*overrides: str, last: str = "route") -> tuple[RunContext, list[str]]:
        output = io.StringIO()
        settings = [f"runs={recipe.parent / 'runs'}", *overrides]
        loaded = load_recipe(str(recipe), settings, registry)
        chosen: Sequence[Any] = stages()
        count = [stage.name for stage in chosen].index(last) + 1
        console = Console(file=output, width=200)
        context = run_stages(chosen[:count], loaded, registry, console)
        lines = output.getvalue().splitlines()
        return context, [line.split()[0][3:] for line in lines if "finished before" in line]

    return run


def test_what_serving_adds_changes_the_bundle_alone(run: Callable[..., Any]) -> None:
    words = "draft.pool.words=suffix"
    contexts = [
        run(words, *own, last="collect")[0]
        for own in ((), ("decode.remember=500",), ("decode.correction.use=true",))
    ]
    measured = [decode_settings(each) for each in contexts]
    assert measured[0] == measured[1] == measured[2]
    bundles = [Bundle().settings(each) for each in contexts]
    assert bundles[0] not in bundles[1:] and "remember" not in bundles[0]["decode"]


def test_each_switch_changes_its_part(run: Callable[..., Any], tmp_path: Path) -> None:
    context, kept = run()
    assert kept == []
    before = load_tasks(context.stage_folders["partition"]).labels

    _, kept = run("route.threshold=1")
    assert kept == ["collect", "encode", "partition", "draft", "align", "assign", "route"]
    context, _ = run("route.threshold=1")
    assigned = load_assignment(context.stage_folders["assign"])
    router = run_router(context, assigned)
    assert router.route("w3 w4 w5").assignment == assigned.fallback
    assert assigned.fallback.draft == "small@single"

    fixed = ("assign.drafts=[small]", "assign.draft_lengths=[2]", "assign.margin=0")
    context, kept = run(*fixed)
    assert kept == ["collect", "encode", "partition", "draft", "align", "route"]
    assigned = load_assignment(context.stage_folders["assign"])
    assert {(each.draft, each.draft_length) for each in assigned.tasks} <= {
        ("small@task-0", 2),
        ("small@task-1", 2),
    }

    context, kept = run("align.enabled=false")
    assert kept == ["collect", "encode", "partition", "draft", "route"]
    assigned = load_assignment(context.stage_folders["assign"])
    assert {each.draft for each in assigned.tasks} <= {"small", "lookup", None}
    assert assigned.baselines["single"].draft == "small"

    context, kept = run("align.enabled=false", "route.labels=speed", "route.threshold=auto")
    assert kept == ["collect", "encode", "partition", "draft", "align", "assign"]
    assigned = load_assignment(context.stage_folders["assign"])
    routes = load_routes(context, assigned)
    assert [score.labels for score in routes.scores] == ["speed", "task"]
    assert all(0 <= s.regret <= (routes.fallback_regret or 0) + 1e-9 for s in routes.scores)
    ways = {(each.draft, each.draft_length) for each in (*assigned.tasks, PLAIN)}
    assert {(each.draft, each.draft_length) for each in routes.classes} <= ways
    router = run_router(context, assigned)
    assert router.threshold == routes.threshold
    assert router.route("w3 w4 w5").assignment in (*routes.classes, assigned.fallback)

    costs, example = load_costs(context.stage_folders["assign"]), known_examples(context)[0]
    tokens = len(load_answers(context.stage_folders["collect"])[example.id].answer_ids)
    plainly = costs.target.seconds[0] * (1 + costs.overhead)
    expected = (min(tokens, context.recipe.assign.max_new_tokens) - 1) * plainly
    assert prompt_seconds(context, [example], [PLAIN]).seconds == pytest.approx(expected)

    context, kept = run("partition.shuffled=true", last="partition")
    assert kept == ["collect", "encode"]
    after = load_tasks(context.stage_folders["partition"]).labels
    assert before != after and sorted(before.values()) == sorted(after.values())

    context, kept = run("corpus.leave_out=[low]", last="partition")
    assert kept == ["collect"]
    assert {each.task for each in known_examples(context)} == {"high"}
    assert all(
        name.startswith("high") for name in load_tasks(context.stage_folders["partition"]).labels
    )

    corpus = tmp_path / "prompts.jsonl"
    rows = [json.loads(line) for line in corpus.read_text().splitlines()]
    for row in rows:
        if row["task"] == "low" and row["split"] == "validation":
            row["split"] = "train"
    corpus.write_text("".join(json.dumps(row) + "\n" for row in rows))
    context, _ = run("draft.pool.small=null", last="assign")
    summary = (context.stage_folders["assign"] / "summary.txt").read_text()
    tasks = load_tasks(context.stage_folders["partition"])
    low = tasks.names[tasks.labels["low-train-0"]]
    assert f"too few validation prompts are of {low}; those of all were measured" in summary

    with pytest.raises(CorpusError, match="no prompt has the task 'lwo'; tasks are: high, low"):
        run("corpus.leave_out=[lwo]", last="encode")


def test_labels_are_dealt_out_within_their_split() -> None:
    labels = np.repeat(np.arange(4), 25)
    train = np.arange(100) % 5 != 0
    dealt = shuffle_labels(labels, train, seed=3)
    assert not np.array_equal(dealt, labels)
    for part in (train, ~train):
        assert sorted(dealt[part]) == sorted(labels[part])
    assert np.array_equal(dealt, shuffle_labels(labels, train, seed=3))


@pytest.mark.slow
@pytest.mark.parametrize("most", [24, 1], ids=["halves", "a prompt per task"])
def test_speed_is_learnt_from_prompts_whose_answers_no_draft_knows(
    run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    measured: list[Example] = []

    def noted(context: RunContext, examples: Sequence[Example], ways: Any) -> PromptSeconds:
        measured.extend(examples)
        return prompt_seconds(context, examples, ways)

    monkeypatch.setattr("taskspec.pipeline.speed_routes.prompt_seconds", noted)
    changes = ("draft.pool.words=suffix", "route.labels=speed", f"route.speed_prompts={most}")
    context, _ = run(*changes)
    assert {each.split for each in measured} == {"validation"}
    scores = load_routes(context, load_assignment(context.stage_folders["assign"])).scores
    assert [score.labels for score in scores] == ["speed", "task"]
    assert all(0 <= score.regret < 1 for score in scores)
