"""The decoding benchmark answers the same prompts in every way, and says what it left out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from taskspec.cli.main import app
from taskspec.errors import TaskSpecError
from taskspec.evaluation.bench_decode import _drafts
from taskspec.evaluation.bench_engines import EnginePlan, OtherEngine
from taskspec.evaluation.bench_ways import Answered, BenchPrompt, choose_prompts, take_turns, theirs
from taskspec.evaluation.bench_worker import _transformers_model
from taskspec.recipe.choice import PluginChoice
from taskspec.serving.bundle import read_manifest
from taskspec.serving.pool import DraftEntry, Pool
from taskspec.serving.routing import Assignment


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
    recipe = write_recipe("kd")
    monkeypatch.chdir(recipe.parent)
    invoke("run", recipe.name, "draft.pool.small.options.vocabulary=0")
    return recipe.parent / "runs" / "tiny" / "bundle"


def refused(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 2, result.output
    return " ".join(result.output.split())


@pytest.mark.slow
def test_every_way_answers_every_prompt(bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "speed.json"
    common = ("bench", "decode", str(bundle), "--corpus", "prompts.jsonl", "--tokens", "6")
    drafts = read_manifest(bundle).drafts
    draft = next(each.name for each in drafts if each.plugin.use == "causal-lm")
    settings = (
        "--count",
        "4",
        "--repeats",
        "2",
        "--batches",
        "3",
        "--assistant",
        draft,
        "--correct",
    )
    said = invoke(*common, *settings, "--against", "transformers,vllm", "--out", str(out))
    assert "roofline" in said and "vllm is left out: pip install vllm" in said
    found = json.loads(out.read_text())
    methods = {each["name"]: each for each in found["methods"]}
    assert len(methods) == len(found["methods"])
    assert (
        list(methods)[:3] == ["plain", "routed", "routed, corrected"]
        and f"{draft}, 4 tokens" in methods
    )
    others = {"transformers", "transformers, prompt lookup 4", "transformers, assisted 4"}
    assert others == found["versions"].keys() and others < methods.keys()
    assert methods["plain"]["ratio"]["value"] == 1.0
    assert len(found["prompts"]) == 4 and all("test" in name for name in found["prompts"])
    for name, each in methods.items():
        assert set(each["by_task"]) == {"low", "high"} and each["tokens_per_second"] > 0
        assert name in others or each["block_efficiency"] >= 1
    costs = [each["cost"] for each in methods.values() if each["cost"] is not None]
    assert costs and all(cost["verify_ratio"] > 0 for cost in costs)
    (batch,) = found["batches"]
    assert batch["rows"] == 3 and batch["differing"] == 0 and batch["plain"] > 0
    assert batch["routed_range"][0] <= batch["routed_ratio"] <= batch["routed_range"][1]
    assert "choose among transformers" in refused(*common, "--against", "magic")
    assert "fewer --tokens" in refused(*common[:-1], "250")
    assert "numbers above 1" in refused(*common, "--batches", "4,1")
    assert "fewer than 64 at once" in refused(*common, "--batches", "4,64", "--against", "")
    assert draft in refused(*common, "--assistant", "none")


def answering(python: Path, script: str) -> OtherEngine:
    """An engine whose interpreter is a shell script."""
    python.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    python.chmod(0o755)
    return OtherEngine(EnginePlan("vllm", {"model": "m"}, str(python)))


def test_another_interpreter_answers_and_its_noise_stays_away(tmp_path: Path) -> None:
    replies = """echo loading >&2; echo '{"version": "1.2"}'
    while read line; do echo '{"seconds": 2.0, "wrote": 8}'; done"""
    with answering(tmp_path / "python", replies) as engine:
        assert engine.version == "1.2"
        assert engine.answer([1, 2], 8) == 2.0
        assert engine.answer([1, 2], 16) == 4.0


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo 'no memory left' >&2; exit 1", "ended without an answer: no memory left"),
        ("exit 1", "ended without an answer: it said nothing"),
        ("""echo '{"error": "ImportError: vllm"}'""", "cannot answer here: ImportError: vllm"),
    ],
)
def test_an_engine_that_cannot_run_says_why(tmp_path: Path, script: str, message: str) -> None:
    with pytest.raises(TaskSpecError, match=message), answering(tmp_path / "python", script):
        pass


def test_an_interpreter_that_is_not_there_is_named() -> None:
    engine = OtherEngine(EnginePlan("vllm", {}, "no/such/python"))
    with pytest.raises(TaskSpecError, match="cannot run no/such/python"), engine:
        pass


@pytest.mark.parametrize("at", ["read line; exit 1", "sleep 0.1; exit 1"])
def test_an_engine_that_ends_is_left_out_and_named(tmp_path: Path, at: str) -> None:
    """While it answers, or between two answers: nobody else's measurements are lost."""
    once = """read line; echo '{"seconds": 1.0, "wrote": 4}'"""
    script = f"""echo '{{"version": "1"}}'; {once}; echo 'no memory left' >&2; {at}"""
    prompts = [BenchPrompt(str(index), "a", "text", (1, 2)) for index in range(3)]
    with answering(tmp_path / "python", script) as engine:
        ways = {"ours": lambda prompt: Answered(2.0), "vllm": theirs(engine, 4)}
        found, failed = take_turns(ways, prompts, 2, lambda: None)
    assert set(found) == {"ours"} and [len(each) for each in found["ours"]] == [2, 2, 2]
    assert failed == {"vllm": "vllm ended without an answer: no memory left"}


def test_a_draft_is_timed_at_each_length_that_a_task_has() -> None:
    tasks = [Assignment("a", "small", 3), Assignment("b", "small", 4), Assignment("c", None, 0)]
    entry = DraftEntry("small", PluginChoice("causal-lm"), Path("small"))
    manifest = SimpleNamespace(tasks=tasks, fallback=Assignment("fallback", "small", 3))
    bundle: Any = SimpleNamespace(manifest=manifest, pool=Pool({}, {"small": entry}))
    found = _drafts(bundle)
    assert {name: choice.draft_length for name, choice in found.items()} == {
        "small, 3": 3,
        "small, 4": 4,
    }


def test_another_engine_answers_without_its_model_s_own_penalties(
    tiny_llama_folder: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(tiny_llama_folder, tmp_path / "penalised")
    settings = {"repetition_penalty": 1.3, "eos_token_id": 1, "temperature": 0.7}
    (folder / "generation_config.json").write_text(json.dumps(settings))
    common = {"dtype": "float32", "device": "cpu"}
    model = _transformers_model({**common, "model": str(folder)}, "model")
    ids = torch.tensor([[5, 6, 7]])
    asked = {"max_new_tokens": 20, "do_sample": False, "pad_token_id": 0}
    answer = model.generate(ids, **asked)[0].tolist()
    expected = ids[0].tolist()
    for _ in range(20):
        expected.append(int(model(torch.tensor([expected])).logits[0, -1].argmax()))
    assert answer == expected
