"""A whole run, from prompts to table and bundle."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from taskspec_verifiers.greedy import Greedy

from taskspec.corpus.examples import Message
from taskspec.decoding.engine import Engine
from taskspec.decoding.records import Request
from taskspec.errors import ArtifactError, ModelError
from taskspec.pipeline.bundle import Bundle
from taskspec.pipeline.context import RunContext
from taskspec.pipeline.entries import all_entries
from taskspec.pipeline.run import run_recipe
from taskspec.recipe.loading import load_recipe
from taskspec.registry import default_registry
from taskspec.serving.bundle import load_bundle, read_manifest, write_manifest
from taskspec.serving.pool import load_pool, with_members

METHODS = [
    "plain",
    "vanilla",
    "single",
    "best-single",
    "prompt-lookup",
    "random",
    "routed",
    "oracle",
]
STAGES = ["collect", "encode", "partition", "draft", "align", "assign", "route", "evaluate"]


def run(recipe: Path, *overrides: str) -> tuple[RunContext, str]:
    """Run a recipe beside its file; the context and what was printed."""
    output = io.StringIO()
    registry = default_registry()
    loaded = load_recipe(str(recipe), [f"runs={recipe.parent / 'runs'}", *overrides], registry)
    context = run_recipe(loaded, registry, Console(file=output, width=160))
    return context, output.getvalue()


@pytest.mark.parametrize("aligner", ["kd", "lora-kd"])
def test_a_run_ends_with_table_and_bundle(write_recipe: Callable[..., Path], aligner: str) -> None:
    context, printed = run(write_recipe(aligner))
    results = json.loads((context.folder / "results.json").read_text())
    assert list(dict.fromkeys(row["method"] for row in results["rows"])) == METHODS
    assert {row["task"] for row in results["rows"]} == {"low", "high", "all"}
    assert results["lossless"] == {"checked": 4, "mismatches": 0, "dtype": "float32"}
    assert results["clustering"]["clusters"] == 2
    assert results["clustering"]["accuracy"] == 1.0
    assert results["router"]["accuracy"] == 1.0
    assert all(task["overlap"] == 0 for task in results["tasks"])
    assert 0 < results["prompt_share"] < 1
    assert results["speedup_after_prompts"] > 0
    assert "taskspec generate" in printed

    bundle = load_bundle(context.folder / "bundle", default_registry())
    pieces: list[str] = []
    question = [Message("user", "w3 w7 w9 w12 w1")]
    answer = bundle.answer(question, 10, on_text=pieces.append)
    assert "".join(pieces) == answer.text
    assert answer.route.assignment.task == bundle.manifest.tasks[answer.route.label or 0].task
    assert answer.generation.steps
    assert answer.route.distance is not None and not answer.route.unknown
    assert all(len(task.trials) == 2 for task in bundle.manifest.tasks if task.draft is not None)


def test_a_finished_run_is_not_done_again(write_recipe: Callable[..., Path]) -> None:
    recipe = write_recipe()
    context, _ = run(recipe)
    marks = {path: path.stat().st_mtime_ns for path in context.folder.rglob("done.json")}
    _, printed = run(recipe)
    assert printed.count("finished before") == len(STAGES) + 1
    assert marks == {path: path.stat().st_mtime_ns for path in context.folder.rglob("done.json")}

    _, printed = run(recipe, "route.options.strength=2.0")
    again = [line for line in printed.splitlines() if "finished before" in line]
    kept = {line.split()[0] for line in again}
    assert kept == {f"{n:02d}-{name}" for n, name in enumerate(STAGES[:6], start=1)}


def test_an_altered_artifact_is_noticed(write_recipe: Callable[..., Path]) -> None:
    recipe = write_recipe()
    context, _ = run(recipe)
    altered = context.folder / "stages" / "03-partition" / "tasks.json"
    altered.write_text(altered.read_text().replace("0", "1", 1))
    with pytest.raises(ArtifactError, match=r"tasks\.json was altered.*remove"):
        run(recipe)
    shutil.rmtree(altered.parent)
    run(recipe)


@pytest.mark.slow
def test_what_follows_a_stage_made_again_is_made_again(write_recipe: Callable[..., Path]) -> None:
    recipe = write_recipe()
    context, _ = run(recipe)
    shutil.rmtree(context.stage_folders["assign"])
    _, printed = run(recipe)
    kept = {line.split()[0] for line in printed.splitlines() if "finished before" in line}
    again = {"06-assign", "08-evaluate"}
    assert kept == {f"{n:02d}-{name}" for n, name in enumerate(STAGES, start=1)} - again


@pytest.mark.slow
def test_a_draft_more_costs_no_other_its_training(write_recipe: Callable[..., Path]) -> None:
    recipe = write_recipe("kd")
    context, _ = run(recipe)

    def weights() -> dict[str, bytes]:
        folder = context.stage_folders["align"]
        files = folder.glob("small@*/draft/*.safetensors")
        return {str(file.relative_to(folder)): file.read_bytes() for file in files}

    before = weights()
    _, printed = run(recipe, "draft.pool.copier.use=suffix")
    assert "small: as before; lookup: as before; copier: suffix" in printed
    names = [f"small@{key}" for key in ("shared", "task-0", "single")]
    assert all(f"{name}: as before" in printed for name in names)
    assert weights() == before
    changed = ("draft.pool.small.options.layers=3", "draft.pool.copier.use=suffix")
    _, printed = run(recipe, *changed)
    assert "small: causal-lm" in printed and "small@shared: as before" not in printed
    assert "copier: as before" in printed and weights() != before


@pytest.mark.slow
def test_what_an_interrupted_run_had_taught_serves_another_recipe(
    write_recipe: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = write_recipe()

    def broken(*_: Any) -> list[str]:
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patched:
        patched.setattr("taskspec.pipeline.align._build_corpus_drafts", broken)
        with pytest.raises(RuntimeError, match="out of memory"):
            run(recipe, "draft.pool.words=suffix")
    context, printed = run(recipe)
    names = [f"small@{key}" for key in ("shared", "task-0", "task-1", "single")]
    assert all(f"{name}: as before" in printed for name in names)
    assert not list(context.folder.rglob(".*.left"))


@pytest.mark.slow
def test_a_draft_that_knows_no_task_is_kept_when_tasks_change(
    write_recipe: Callable[..., Path],
) -> None:
    recipe = write_recipe()
    run(recipe)
    _, printed = run(recipe, "partition.shuffled=true", "route.threshold=0")
    assert "small: as before" in printed and "small@task-0: as before" not in printed
    # What is left out must be in no draft, as many tasks as there are.
    _, printed = run(recipe, "corpus.leave_out=[low]", "partition.options.clusters=2")
    assert "small: causal-lm" in printed and "small: as before" not in printed


@pytest.mark.slow
def test_drafts_are_checked_before_work_also_where_answers_are_there(
    write_recipe: Callable[..., Path],
) -> None:
    recipe = write_recipe()
    run(recipe)
    with pytest.raises(ModelError, match=r"draft\.pool\.both: "):
        run(recipe, "draft.pool.both=cascade")


def test_a_bundle_has_whole_drafts_and_refuses_other_weights(
    write_recipe: Callable[..., Path], tiny_qwen2_folder: Path
) -> None:
    context, _ = run(write_recipe(), "draft.pool.lookup=null")
    drafts, half = context.folder / "bundle" / "drafts", context.folder / "half"
    for each in drafts.iterdir():
        # As an interrupted attempt leaves it.
        (half / "drafts" / each.name).mkdir(parents=True)
    Bundle().run(context, half)
    again = half / "drafts"
    whole = {path.relative_to(drafts) for path in drafts.rglob("*.safetensors")}
    assert whole and whole == {path.relative_to(again) for path in again.rglob("*.safetensors")}
    with pytest.raises(ArtifactError, match="weights"):
        load_bundle(context.folder / "bundle", default_registry(), str(tiny_qwen2_folder))


def test_a_folder_that_is_no_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="is not a bundle"):
        load_bundle(tmp_path, default_registry())


def test_a_task_that_no_draft_speeds_up_is_decoded_plainly(
    write_recipe: Callable[..., Path],
) -> None:
    context, _ = run(write_recipe(margin=1e9))
    value = json.loads((context.folder / "stages/06-assign/assignment.json").read_text())
    assert [task["draft"] for task in value["tasks"]] == [None, None]
    results = json.loads((context.folder / "results.json").read_text())
    routed = next(r for r in results["rows"] if (r["method"], r["task"]) == ("routed", "all"))
    assert routed["block_efficiency"] == 1.0
    manifest = read_manifest(context.folder / "bundle")
    assert [each.draft for each in manifest.spares] == ["lookup"], "correction may take it up"
    assert "lookup" in {entry.name for entry in manifest.drafts}


@pytest.mark.slow
def test_drafts_that_learn_without_training_and_drafts_of_drafts_take_part(
    write_recipe: Callable[..., Path],
) -> None:
    pool = "draft.pool.both={use: cascade, options: {drafts: [words, small]}}"
    context, _ = run(write_recipe(), "draft.pool.words=suffix", "draft.pool.lookup=null", pool)
    assigned = json.loads((context.folder / "stages/06-assign/assignment.json").read_text())
    considered = [{each["draft"] for each in evidence} for evidence in assigned["evidence"]]
    for label, drafts in enumerate(considered):
        own = {f"{name}@task-{label}" for name in ("small", "words", "both")}
        assert drafts <= {*own, "small@single", "words"}
        assert f"both@task-{label}" in drafts
    results = json.loads((context.folder / "results.json").read_text())
    assert results["lossless"]["mismatches"] == 0

    registry = default_registry()
    target = context.target
    known = all_entries(context, 2)
    pool_of_both = load_pool(with_members(["both@task-1"], known), registry, target)
    choice = pool_of_both.choice("both@task-1", 2)
    prompt = tuple(target.chat_ids([Message("user", "w50 w51 w52 w50 w51")], None))
    plain = Engine(target, Greedy()).generate([Request("0", prompt, 12)])[0]
    engine = Engine(target, Greedy(), pool_of_both.drafters)
    assert engine.generate([Request("0", prompt, 12, draft=choice)])[0].tokens == plain.tokens

    entry = next(entry for entry in with_members(["both@task-1"], known) if entry.members)
    folder = context.folder / "copy"
    folder.mkdir()
    manifest = read_manifest(context.folder / "bundle")
    write_manifest(folder, replace(manifest, drafts=(entry,)))
    assert read_manifest(folder).drafts[0].members == ("words@task-1", "small@task-1")


def test_a_system_message_is_read_once_and_changes_no_answer(
    write_recipe: Callable[..., Path],
) -> None:
    words = " ".join(f"w{number}" for number in range(20, 40))
    context, _ = run(write_recipe(), f"target.system={words}", "draft.pool.small=null")
    folder, registry = context.folder / "bundle", default_registry()
    once, whole = load_bundle(folder, registry), load_bundle(folder, registry, prefixes=False)
    (prefix,) = read_manifest(folder).prefixes
    said = context.target.chat_ids([Message("user", "w1")], words)
    assert prefix == said[: len(prefix)] and len(prefix) > 20
    read = _positions_read(once.engine), _positions_read(whole.engine)
    for text in ("w50 w51 w52 w50 w51", "w3 w4 w3", "w1"):
        answers = [each.answer([Message("user", text)], 12) for each in (once, whole)]
        assert answers[0].generation.tokens == answers[1].generation.tokens
    assert sum(read[1]) - sum(read[0]) == 2 * len(prefix)
    results = json.loads((context.folder / "results.json").read_text())
    assert results["lossless"]["mismatches"] == 0 < results["lossless"]["checked"]


def _positions_read(engine: Engine) -> list[int]:
    """Tokens that each of the target's passes will have read."""
    read: list[int] = []
    forward = engine.model.forward

    def watched(rows: Any, tokens: Any, counts: Any = None, *rest: Any) -> Any:
        read.append(tokens.numel() if counts is None else sum(counts))
        return forward(rows, tokens, counts, *rest)

    engine.model.forward = watched  # type: ignore[method-assign]
    return read
