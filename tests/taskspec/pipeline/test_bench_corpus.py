"""Any corpus by all methods: what is answered, what is left out, what is kept."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from taskspec.cli.main import app
from taskspec.corpus.readers import read_examples
from taskspec.pipeline.bench_corpus import CorpusPlan, choose, conversations
from taskspec.pipeline.subject import open_subject
from taskspec.registry import default_registry

QUESTIONS = [
    {"question_id": 1, "category": "low", "turns": ["w1 w2 w3 w4", "w5 w6"]},
    {"question_id": 2, "category": "high", "turns": ["w45 w46 w47"]},
]


def invoke(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == code, result.output
    return " ".join(result.output.split())


@pytest.fixture
def run(write_recipe: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished run; commands run beside its recipe, where `questions.jsonl` lies too."""
    recipe = write_recipe("kd")
    monkeypatch.chdir(recipe.parent)
    invoke("run", recipe.name, "runs=runs", "collect.free_text_tokens=600")
    Path("questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in QUESTIONS))
    return Path("runs/tiny")


@pytest.mark.slow
def test_every_method_answers_every_turn_and_the_same_command_goes_on(run: Path) -> None:
    command = ("bench", "corpus", str(run), "questions.jsonl", "--turns", "all", "--tokens", "6")
    said = invoke(*command, "--out", "found")
    assert "later turns follow the target's own plain greedy answers" in said
    found = json.loads(Path("found/results.json").read_text())
    methods = list(dict.fromkeys(row["method"] for row in found["rows"]))
    assert methods == [
        *("plain", "vanilla", "single", "best-single", "prompt-lookup"),
        *("random", "routed", "oracle"),
    ]
    assert found["prompts"] == ["1", "2", "1, turn 2"]
    assert {row["task"] for row in found["rows"]} == {"low", "high", "all"}
    assert found["environment"]["fingerprint"] and len(found["prompt_hash"]) == 64

    timings, work = Path("found/timings.jsonl"), Path(".found.partial")
    before = Path("found/results.json").stat().st_mtime_ns
    invoke(*command, "--out", "found")
    assert Path("found/results.json").stat().st_mtime_ns == before

    # As a kill would leave it: two prompts timed, a third one's line torn.
    lines = timings.read_text().splitlines(keepends=True)
    fingerprint = json.loads(Path("found/done.json").read_text())["fingerprint"]
    Path("found").rename(work)
    for name in ("done.json", "results.json"):
        (work / name).unlink()
    (work / ".fingerprint").write_text(fingerprint)
    (work / "timings.jsonl").write_text("".join(lines[:2]) + lines[2][:40])
    invoke(*command, "--out", "found")
    again = timings.read_text().splitlines(keepends=True)
    assert again[:2] == lines[:2] and len(again) == len(lines)


def test_a_bundle_says_which_rows_it_has_no_draft_for_and_is_told_from_others(run: Path) -> None:
    command = ("bench", "corpus", str(run / "bundle"), "questions.jsonl", "--tokens", "4")
    said = invoke(*command, "--out", "found")
    assert "no draft for vanilla" in said and "older than the list" not in said
    before = Path("found/timings.jsonl").stat().st_mtime_ns
    invoke(*command, "--out", "found")
    assert Path("found/timings.jsonl").stat().st_mtime_ns == before
    # As one whose drafts were trained again, and chosen as before.
    mark = run / "bundle" / "done.json"
    mark.write_text(json.dumps(json.loads(mark.read_text()) | {"fingerprint": "another"}))
    invoke(*command, "--out", "found")
    assert Path("found/timings.jsonl").stat().st_mtime_ns != before
    (run / "bundle" / "seen.json").unlink()
    assert "older than the list of prompts that trained it" in invoke(*command)


def test_what_the_run_has_seen_is_not_asked(run: Path) -> None:
    rows = [json.loads(line) for line in Path("prompts.jsonl").read_text().splitlines()]
    trained = [{**row, "split": None} for row in rows if row["split"] == "train"]
    Path("seen.jsonl").write_text("".join(json.dumps(row) + "\n" for row in trained))
    for subject in (run, run / "bundle"):
        said = invoke("bench", "corpus", str(subject), "seen.jsonl", code=2)
        assert "32 prompts took part in training" in said
    assert "--turns is first or all" in invoke(
        "bench", "corpus", str(run), "seen.jsonl", "--turns", "some", code=2
    )

    recipe = run / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("seed: 0", "seed: 1"))
    said = invoke("bench", "corpus", str(run), "questions.jsonl", code=2)
    assert "not finished: stage collect is of no whole run" in said


@pytest.mark.slow
def test_no_two_turns_share_their_noise(run: Path) -> None:
    console, registry = Console(quiet=True), default_registry()
    subject, plan = open_subject(run, registry, console), CorpusPlan(turns="all", tokens=4)
    chosen, _ = choose(subject, read_examples(Path("questions.jsonl")), plan)
    prompts = conversations(subject, registry, chosen, plan, console)
    assert len(prompts) == len({each.request.seed for each in prompts}) == 3


def test_a_folder_that_is_neither_run_nor_bundle_is_refused(tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"prompt": "hello"}\n')
    said = invoke("bench", "corpus", str(tmp_path), str(prompts), code=2)
    assert "neither a run nor a bundle" in said
