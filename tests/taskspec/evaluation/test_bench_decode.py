"""The decoding benchmark answers the same prompts in every way, and says what it left out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from taskspec.cli.main import app
from taskspec.evaluation.bench_decode import BenchPrompt, choose_prompts


def prompts(counts: dict[str, int]) -> list[BenchPrompt]:
    return [
        BenchPrompt(f"{task}-{i}", task, "text", (1, 2, 3))
        for task, count in counts.items()
        for i in range(count)
    ]


def test_prompts_are_spread_over_the_tasks() -> None:
    chosen = choose_prompts(prompts({"a": 50, "b": 2, "c": 50}), 10, seed=0)
    tasks = [each.task for each in chosen]
    assert [tasks.count(task) for task in "abc"] == [4, 2, 4]
    assert len({each.id for each in chosen}) == 10
    assert chosen == choose_prompts(prompts({"a": 50, "b": 2, "c": 50}), 10, seed=0)
    assert choose_prompts([], 3, seed=0) == []


def invoke(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def bundle(write_recipe: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    recipe = write_recipe()
    monkeypatch.chdir(recipe.parent)
    invoke("run", recipe.name)
    return recipe.parent / "runs" / "tiny" / "bundle"


def test_every_way_answers_every_prompt(bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "speed.json"
    common = ("bench", "decode", str(bundle), "--corpus", "prompts.jsonl", "--tokens", "6")
    said = invoke(*common, "--count", "4", "--repeats", "2", "--against", "", "--out", str(out))
    assert "roofline" in said
    found = json.loads(out.read_text())
    names = [each["name"] for each in found["methods"]]
    assert names[:2] == ["plain", "routed"] and len(names) == len(set(names))
    assert found["methods"][0]["ratio"]["value"] == 1.0
    assert len(found["prompts"]) == 4 and all("test" in name for name in found["prompts"])
    for each in found["methods"]:
        assert set(each["by_task"]) == {"low", "high"} and each["tokens_per_second"] > 0
        assert each["block_efficiency"] >= 1
    drafts = [each for each in found["methods"] if each["cost"] is not None]
    assert drafts and all(each["cost"]["verify_ratio"] > 0 for each in drafts)
    result = CliRunner().invoke(app, [*common, "--against", "magic"])
    assert result.exit_code == 2 and "choose among transformers" in result.output
    result = CliRunner().invoke(app, [*common[:-1], "250"])
    assert result.exit_code == 2 and "fewer --tokens" in result.output
