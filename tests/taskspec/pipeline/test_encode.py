"""The encode stage: what the encoder reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from taskspec.corpus.answers import StoredAnswer, write_answers
from taskspec.corpus.examples import Example, Message
from taskspec.pipeline import encode
from taskspec.pipeline.context import RunContext
from taskspec.recipe.loading import load_recipe
from taskspec.registry import default_registry

RECIPE = """\
name: tiny
target: {model: some/model}
corpus: {path: prompts.jsonl}
encode: {use: tfidf, options: {dimensions: 2, min_share: 0}}
draft: {pool: {lookup: prompt-lookup}}
"""
PROMPTS = ["What is the SUM of 2 and 3?", "What is the sum of 4 and 5?"] * 3


@pytest.fixture
def run_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that runs the stage on the prompts: its context and folder."""
    examples = [Example(f"p{i}", (Message("user", p),), "train") for i, p in enumerate(PROMPTS)]
    monkeypatch.setattr(encode, "known_examples", lambda context: examples)
    (tmp_path / "tiny.yaml").write_text(RECIPE)
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "x"}')

    def run(*overrides: str) -> tuple[RunContext, Path, list[Example]]:
        registry = default_registry()
        loaded = load_recipe(str(tmp_path / "tiny.yaml"), list(overrides), registry)
        context = RunContext(loaded, registry, tmp_path, Console())
        folder = tmp_path / f"encoded-{len(overrides)}"
        folder.mkdir()
        encode.Encode().run(context, folder)
        return context, folder, examples

    return run


def terms(folder: Path) -> set[str]:
    return set(json.loads((folder / "encoder" / "terms.json").read_text()))


def test_texts_are_encoded_as_they_are_unless_the_recipe_cleans_them(run_stage: Any) -> None:
    _, plain, _ = run_stage()
    _, cleaned, _ = run_stage("encode.clean=true")
    assert {"what", "the", "?", "sum"} <= terms(plain)
    assert "sum" in terms(cleaned)
    assert not {"what", "the", "?"} & terms(cleaned)


def test_partitioners_see_the_texts_whole_all_the_same(run_stage: Any) -> None:
    context, _, examples = run_stage("encode.clean=true")
    assert encode.partition_texts(context, examples) == PROMPTS


def test_cleaning_is_part_of_the_stage_s_identity(run_stage: Any) -> None:
    settings = [
        encode.Encode().settings(run_stage(*overrides)[0])
        for overrides in ((), ("encode.clean=true",))
    ]
    assert settings[0] != settings[1]


@pytest.mark.parametrize("left_out", ["[]", "[b]"])
def test_no_prefix_is_known_that_only_a_task_left_out_has(tmp_path: Path, left_out: str) -> None:
    instructions = {"a": tuple(range(20)), "b": tuple(range(50, 80))}
    rows, answers = [], []
    for index in range(24):
        task, split = "ab"[index % 2], "validation" if index % 3 == 0 else "train"
        messages = [{"role": "user", "content": str(index)}]
        rows.append({"id": str(index), "split": split, "task": task, "messages": messages})
        answers.append(StoredAnswer(str(index), (*instructions[task], 100 + index), (7,), True))
    (tmp_path / "examples.json").write_text(json.dumps(rows))
    write_answers(tmp_path / "answers-0000.safetensors", answers)
    (tmp_path / "tiny.yaml").write_text(RECIPE)
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "x"}')
    registry = default_registry()
    loaded = load_recipe(str(tmp_path / "tiny.yaml"), [f"corpus.leave_out={left_out}"], registry)
    context = RunContext(loaded, registry, tmp_path, Console(), {"collect": tmp_path})
    known = set(encode.known_prefixes(context))
    assert known == {instructions["a"]} | ({instructions["b"]} if left_out == "[]" else set())
