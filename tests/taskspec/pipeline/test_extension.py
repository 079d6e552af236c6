"""A run is extended by tasks of its own that it did not know; what it has stays as it is."""

from __future__ import annotations

import fcntl
import json
import random
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from taskspec.cli.main import app
from taskspec.corpus.examples import Message
from taskspec.decoding.cost import TargetCost
from taskspec.pipeline.artifacts import read_done
from taskspec.pipeline.assign import Costs
from taskspec.pipeline.extended import merged_costs
from taskspec.pipeline.extended_partition import group
from taskspec.registry import default_registry
from taskspec.serving.bundle import load_bundle

STAGES = Path("runs/tiny/stages"), Path("runs/tiny-extended/stages")


def invoke(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == code, result.output
    return result.output


def write_prompts(path: str, words: range, counts: dict[str, int]) -> None:
    """Prompts of some words, each split as many as asked for."""
    generator = random.Random(1)
    rows = [
        {"prompt": " ".join(f"w{generator.choice(words)}" for _ in range(10)), "split": split}
        for split, count in counts.items()
        for _ in range(count)
    ]
    with Path(path).open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def read(stage: str, name: str) -> list[Any]:
    """A stage's JSON, of the run and of the one that extends it."""
    return [json.loads((stages / stage / name).read_text()) for stages in STAGES]


@pytest.fixture
def run(write_recipe: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    recipe = write_recipe("kd")
    monkeypatch.chdir(recipe.parent)
    invoke("run", recipe.name)
    return Path("runs/tiny")


def test_unknown_prompts_become_tasks_and_the_rest_stays(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_prompts("known.jsonl", range(0, 12), {"train": 3})
    said = invoke("extend", str(run), "known.jsonl", code=2)
    assert "of 3 new training prompts" in said and not STAGES[1].parent.exists()
    said = invoke("extend", str(run), "known.jsonl", "target.dtype=bfloat16", code=2)
    assert "keeps target as the run has it" in said
    said = invoke("extend", str(run), "prompts.jsonl", code=2)
    assert "has every prompt of prompts.jsonl already" in said

    write_prompts("new.jsonl", range(70, 82), {"train": 14, "validation": 2, "test": 2})
    new = Path("new.jsonl").read_text(encoding="utf-8")
    Path("new.jsonl").write_text(Path("known.jsonl").read_text(encoding="utf-8") + new + new)
    said = " ".join(invoke("extend", str(run), "new.jsonl", "align.tokens=300").split())
    found = re.search(r"2 tasks kept, which (\d) new prompts join; (\d+) unknown .* make 1:", said)
    assert found is not None
    joined, unknown = map(int, found.groups())
    assert joined + unknown == 19 and unknown >= 16

    old, extended = read("03-partition", "tasks.json")
    assert extended["names"][:2] == old["names"] and len(set(extended["names"])) == 3
    assert old["labels"].items() <= extended["labels"].items()
    labels = [label for name, label in extended["labels"].items() if name.startswith("new-")]
    assert sorted(labels)[joined:] == [2] * unknown and 2 not in sorted(labels)[:joined]
    old, extended = read("06-assign", "assignment.json")
    assert extended["tasks"][:2] == old["tasks"] and extended["evidence"][:2] == old["evidence"]
    assert extended["fallback"] == old["fallback"] and len(extended["tasks"]) == 3
    for stage in ("04-draft", "05-align"):
        before, after = (read_done(stages / stage) for stages in STAGES)
        assert before is not None and after is not None
        drafts = {name: hash for name, hash in before.files.items() if "/" in name}
        assert drafts.items() <= after.files.items()
        added = {name.partition("/")[0] for name in after.files.keys() - before.files.keys()}
        assert added == ({"small@task-2"} if stage == "05-align" else set())
    before, after = (read_done(stages / "01-collect") for stages in STAGES)
    assert before is not None and after is not None
    shards = {name: hash for name, hash in before.files.items() if "safetensors" in name}
    assert shards.items() <= after.files.items()

    bundle = load_bundle(Path("runs/tiny-extended/bundle"), default_registry())
    answer = bundle.answer([Message("user", "w71 w72 w73 w74 w75")], 5)
    assert answer.route.label == 2 and not answer.route.unknown
    assert bundle.router.route("w3 w4 w5 w6").label != 2

    said = invoke("extend", str(run), "new.jsonl", "align.tokens=300")
    assert said.count("finished before") == 9
    with monkeypatch.context() as inside:
        inside.chdir(run)
        said = invoke("extend", ".", "../../new.jsonl", "align.tokens=300")
        assert said.count("finished before") == 9 and not list(Path(".").glob("*-extended"))
    refuse_other_prompts(run)
    assert invoke("run", "runs/tiny-extended/recipe.yaml").count("finished before") == 9
    (STAGES[1] / "03-partition/done.json").unlink()
    said = invoke("run", "runs/tiny-extended/recipe.yaml")
    again = [line.split()[0] for line in said.splitlines() if "finished before" in line]
    assert len(again) == 8 and "03-partition" not in again


def refuse_other_prompts(run: Path) -> None:
    """Extend the run anew, each time refused: with too little, against the rules, while in use."""
    write_prompts("other.jsonl", range(58, 66), {"train": 14, "validation": 2, "test": 2})
    before = {path.name for path in STAGES[1].parent.iterdir()}
    assert "of 3 new training" in invoke("extend", str(run), "known.jsonl", code=2)
    said = invoke("extend", str(run), "other.jsonl", "target.dtype=bfloat16", code=2)
    assert "keeps target as the run has it" in said
    assert {path.name for path in STAGES[1].parent.iterdir()} == before
    with (STAGES[1].parent / ".lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "in use by another" in invoke("extend", str(run), "other.jsonl", code=2)


def test_costs_measured_before_keep_their_ratio_to_a_pass_of_now() -> None:
    before = Costs(TargetCost((1.0, 1.1, 1.2)), 0.1, {"kept": 0.05, "both": 0.5})
    bench = SimpleNamespace(cost=TargetCost((2.0, 2.5)), overhead=0.2, draft_seconds={"both": 0.3})
    found = merged_costs(before, bench)
    assert found["target_pass_seconds"] == [2.0, 2.5, 2.4] and found["overhead"] == 0.2
    assert found["draft_seconds"] == {"kept": 0.1, "both": 0.3}


def test_only_groups_large_enough_to_learn_from_become_tasks() -> None:
    found = np.repeat([0, 1, 2, -1], [12, 4, 11, 3])
    centers = np.array([[1, 0], [0.1, 1], [0, 1], [1, 0.1]], np.float32)
    vectors, train = centers[found], np.ones(30, bool)
    labels = group(found, vectors, train, "nearest")
    assert labels.tolist() == [0] * 12 + [1] * 15 + [0] * 3
    assert set(group(found, vectors, train, "drop")[12:16]) == {-1}
    assert not group(found % 5, vectors, np.arange(30) % 4 == 0, "nearest").any()


@pytest.mark.slow
def test_a_log_of_answers_is_read_whatever_became_of_its_lines(run: Path) -> None:
    write_prompts("new.jsonl", range(70, 82), {"train": 14, "validation": 2, "test": 2})
    bundle = str(run / "bundle")
    common = ("--watch", "log.jsonl", "--max-new-tokens", "2")
    invoke("answer", bundle, "new.jsonl", "answers.jsonl", *common, "--watch-prompts")
    invoke("answer", bundle, "new.jsonl", "again.jsonl", *common)
    with Path("log.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"time": 1')
    Path("silent.jsonl").write_text(
        "".join(
            line
            for line in Path("log.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
            if "messages" not in line
        ),
        encoding="utf-8",
    )
    said = invoke("extend", str(run), "silent.jsonl", code=2)
    assert "silent.jsonl is a log without prompts; answer with --watch-prompts" in said
    said = " ".join(invoke("extend", str(run), "log.jsonl", "align.tokens=300").split())
    assert "note: lines of log.jsonl that are left out, as they hold no whole prompt: 19" in said


def test_what_is_stopped_before_its_run_leaves_no_corpus(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_prompts("new.jsonl", range(70, 82), {"train": 14, "validation": 2, "test": 2})

    def stopped(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("taskspec.pipeline.extension.load_recipe", stopped)
    assert "interrupted" in invoke("extend", str(run), "new.jsonl", code=130)
    assert not run.with_name("tiny-extended").exists()
