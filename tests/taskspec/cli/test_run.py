"""`taskspec run` with what users get wrong: one message, exit code 2, nothing left behind."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from safetensors import SafetensorError
from transformers import AutoTokenizer
from typer.testing import CliRunner

from taskspec.cli.main import app


@pytest.fixture
def recipe(write_recipe: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tiny recipe; commands run in its folder."""
    path = write_recipe()
    monkeypatch.chdir(path.parent)
    return path


def run(recipe: Path, *overrides: str) -> Result:
    """`taskspec run` within this process."""
    return CliRunner().invoke(app, ["run", recipe.name, *overrides])


def refuse(recipe: Path, *overrides: str) -> str:
    """Run what must be refused; the message, on one line."""
    before = set(recipe.parent.rglob("*"))
    result = run(recipe, *overrides)
    assert isinstance(result.exception, SystemExit), "a traceback reached the user"
    assert result.exit_code == 2
    assert result.output.count("error:") == 1
    assert set(recipe.parent.rglob("*")) == before, "something was left behind"
    return " ".join(result.output.split("error:")[1].split())


def write_prompts(recipe: Path, rows: list[Any]) -> None:
    """Replace the recipe's prompts."""
    lines = [json.dumps(row) + "\n" for row in rows]
    (recipe.parent / "prompts.jsonl").write_text("".join(lines))


def test_an_unknown_key(recipe: Path) -> None:
    text = recipe.read_text().replace("collect: {max_new_tokens", "collect: {max_tokens")
    recipe.write_text(text)
    message = refuse(recipe)
    assert "tiny.yaml:4 collect.max_tokens" in message and "max_new_tokens" in message


def test_a_wrong_type(recipe: Path) -> None:
    message = refuse(recipe, "align.tokens=many")
    assert "align.tokens" in message and "many" in message


def test_an_unknown_plugin(recipe: Path) -> None:
    message = refuse(recipe, "route.use=logistics")
    assert "route.use" in message and "logistic" in message


def test_a_missing_file(recipe: Path) -> None:
    (recipe.parent / "prompts.jsonl").unlink()
    assert "prompts.jsonl" in refuse(recipe)


def test_an_empty_corpus(recipe: Path) -> None:
    write_prompts(recipe, [])
    assert "prompts.jsonl holds no prompts" in refuse(recipe)


def test_one_prompt(recipe: Path) -> None:
    write_prompts(recipe, [{"prompt": "w1 w2 w3"}])
    message = refuse(recipe)
    assert "too few prompts: 1 train" in message and "needed are at least" in message


def test_prompts_longer_than_the_context(recipe: Path) -> None:
    rows = [{"id": f"long-{n}", "prompt": f"w{n} " + "w1 " * 299} for n in range(20)]
    write_prompts(recipe, rows)
    message = refuse(recipe)
    assert "20 prompts have more than 255 tokens" in message and "long-0" in message


def test_a_draft_with_another_tokenizer(recipe: Path, tiny_llama_folder: Path) -> None:
    other = recipe.parent / "other"
    other.mkdir()
    for path in tiny_llama_folder.iterdir():
        (other / path.name).write_bytes(path.read_bytes())
    tokenizer = AutoTokenizer.from_pretrained(tiny_llama_folder)
    tokenizer.add_tokens(["stranger"])
    tokenizer.save_pretrained(other)
    message = refuse(recipe, f"draft.pool.small={{use: causal-lm, options: {{model: {other}}}}}")
    assert "draft.pool.small" in message and "another tokenizer" in message


def test_a_draft_deeper_than_the_target(recipe: Path) -> None:
    message = refuse(recipe, "draft.pool.small.options.layers=9")
    assert "layers=9" in message and "at most 4" in message


def test_a_run_folder_that_cannot_be_made(recipe: Path) -> None:
    (recipe.parent / "runs").write_text("a file is in the way")
    message = refuse(recipe)
    assert "cannot write the run folder runs/tiny" in message and "runs=" in message


def test_no_space_left_while_answers_are_written(
    recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(tensors: Any, path: Path, metadata: Any) -> None:
        path.write_bytes(b"the first half")
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    with monkeypatch.context() as patch:
        patch.setattr("taskspec.corpus.answers.save_file", fail)
        result = run(recipe)
    assert result.exit_code == 2
    assert "no space left on the disk; free some and run the same command again" in result.output
    assert not [path for path in recipe.parent.rglob("*.partial") if path.is_file()]
    assert run(recipe).exit_code == 0


def test_no_space_left_later_keeps_what_was_finished(
    recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device", "somewhere")

    with monkeypatch.context() as patch:
        patch.setattr("taskspec.pipeline.encode.save_file", fail)
        result = run(recipe)
    assert result.exit_code == 2 and "somewhere: no space left on the disk" in result.output
    assert (recipe.parent / "runs/tiny/stages/01-collect/done.json").is_file()
    assert "01-collect" in run(recipe).output


def test_a_device_that_is_not_there(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    message = refuse(recipe, "align.trainer.accelerator=cuda")
    assert "align.trainer.accelerator cuda: this machine has none" in message


def test_a_task_to_leave_out_that_is_not_there(
    recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("taskspec.pipeline.collect.answer_all", lambda *_: pytest.fail("asked"))
    message = refuse(recipe, "corpus.leave_out=[lwo]")
    assert "no prompt has the task 'lwo'; tasks are: high, low" in message
