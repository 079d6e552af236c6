"""`taskspec answer` answers a file of prompts, and goes on where it was interrupted."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from taskspec.cli.main import app
from taskspec.corpus.readers import read_examples
from taskspec.registry import default_registry
from taskspec.serving.answer_log import read_log
from taskspec.serving.bundle import load_bundle


def invoke(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == code, result.output
    return " ".join(result.output.split())


@pytest.fixture
def bundle(write_recipe: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    recipe = write_recipe()
    monkeypatch.chdir(recipe.parent)
    invoke("run", recipe.name, "decode.verifier.use=rejection")
    prompts = Path("prompts.jsonl").read_text(encoding="utf-8").splitlines()[:7]
    Path("asked.jsonl").write_text("\n".join(prompts) + "\n", encoding="utf-8")
    return Path("runs/tiny/bundle")


def rows(path: str) -> dict[str, Any]:
    read = [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]
    assert len({each["id"] for each in read}) == len(read), "no prompt is answered twice"
    return {each["id"]: each for each in read}


def test_answers_are_those_of_one_prompt_at_a_time_and_runs_go_on(bundle: Path) -> None:
    common = ("answer", str(bundle), "asked.jsonl")
    watched = ("--watch", "log.jsonl", "--watch-prompts")
    invoke(*common, "out.jsonl", "--max-new-tokens", "9", "--batch-size", "3", *watched)
    found = rows("out.jsonl")
    log = read_log(Path("log.jsonl")).answers
    assert sorted(each.assigned for each in log) == sorted(each["task"] for each in found.values())
    assert all(each.passes and each.unknown is False for each in log)
    assert len(read_examples(Path("log.jsonl"))) == 7
    prompt = ("generate", str(bundle), "w3 w4 w5", "--max-new-tokens", "5", "--watch", "log.jsonl")
    invoke(*prompt)
    assert "messages" not in Path("log.jsonl").read_text(encoding="utf-8").splitlines()[-1]
    assert "no task drifted; no new task (8 answers)" in invoke("watch", str(bundle), "log.jsonl")
    loaded = load_bundle(bundle, default_registry())
    for each in read_examples(Path("asked.jsonl")):
        alone = loaded.answer(each.messages, 9)
        assert found[each.id]["answer"] == alone.text
        assert found[each.id]["finish"] == alone.generation.finish
        assert found[each.id]["task"] == alone.route.assignment.task

    whole = Path("out.jsonl").read_text(encoding="utf-8")
    first = whole.splitlines(keepends=True)[:2]
    Path("cut.jsonl").write_text("".join(first) + whole.splitlines()[2][:11], encoding="utf-8")
    said = invoke(*common, "cut.jsonl", "--max-new-tokens", "9")
    assert "2 of 7 prompts have an answer" in said and rows("cut.jsonl") == found
    assert "7 of 7" in invoke(*common, "cut.jsonl") and rows("cut.jsonl") == found


def test_answers_with_correction_are_the_same(bundle: Path) -> None:
    common = ("answer", str(bundle), "asked.jsonl", "--max-new-tokens", "9")
    prompt = ("generate", str(bundle), "Hello", "--max-new-tokens", "9")
    invoke(*common, "off.jsonl")
    alone = invoke(*prompt)
    manifest = bundle / "bundle.json"
    value = json.loads(manifest.read_text(encoding="utf-8"))
    assert value["decode"]["correction"]["use"] is False
    value["decode"]["correction"]["use"] = True
    manifest.write_text(json.dumps(value), encoding="utf-8")
    invoke(*common, "on.jsonl", "--batch-size", "2")
    assert rows("on.jsonl") == rows("off.jsonl")
    assert invoke(*prompt) == alone
    assert "block efficiency" in invoke(*prompt, "--stats")


def test_sampled_answers_do_not_depend_on_an_interruption(bundle: Path) -> None:
    common = ("answer", str(bundle), "asked.jsonl", "--temperature", "1", "--batch-size", "1")
    invoke(*common, "--max-new-tokens", "9", "whole.jsonl")
    found = rows("whole.jsonl")
    assert len({each["answer"] for each in found.values()}) > 1
    kept = Path("whole.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)[:3]
    Path("half.jsonl").write_text("".join(kept), encoding="utf-8")
    invoke(*common, "--max-new-tokens", "9", "half.jsonl")
    assert rows("half.jsonl") == found


@pytest.mark.parametrize(
    "content",
    [b"notes of mine", b'{"id": "a"}\n', b"[1]\n", b"{}\nrest", b"\n", b"caf\xe9", b"caf\xe9\n"],
)
def test_a_file_of_something_else_is_left_alone(content: bytes, tmp_path: Path) -> None:
    prompts, out = tmp_path / "prompts.jsonl", tmp_path / "out.jsonl"
    prompts.write_text('{"prompt": "Hello"}\n', encoding="utf-8")
    out.write_bytes(content)
    said = invoke("answer", str(tmp_path), str(prompts), str(out), code=2)
    assert "name another file" in said and out.read_bytes() == content
