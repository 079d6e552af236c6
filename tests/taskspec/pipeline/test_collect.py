"""What is collected follows from what the prompts say, not from where they lie."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from taskspec.decoding.engine import Engine
from taskspec.decoding.records import Request
from taskspec.pipeline.answering import load_answers
from taskspec.pipeline.collect import Collect, load_examples
from taskspec.pipeline.context import RunContext
from taskspec.pipeline.runner import run_stages
from taskspec.recipe.loading import load_recipe
from taskspec.registry import default_registry

KEPT = "finished before"


@pytest.fixture
def recipe(write_recipe: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tiny recipe, which names its prompts by their name; commands run above its folder."""
    path = write_recipe()
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace(str(path.parent / "prompts.jsonl"), "prompts.jsonl"))
    folder = path.parent / "configs"
    folder.mkdir()
    for name in ("tiny.yaml", "prompts.jsonl"):
        (path.parent / name).rename(folder / name)
    monkeypatch.chdir(path.parent)
    return folder / "tiny.yaml"


def collect(recipe: Path, *overrides: str) -> tuple[Path, str]:
    """Run the first stage; the run's folder, and what was said."""
    output, registry = io.StringIO(), default_registry()
    settings = ["collect.free_text_tokens=0", "collect.max_new_tokens=2", *overrides]
    loaded = load_recipe(str(recipe), settings, registry)
    run = run_stages([Collect()], loaded, registry, Console(file=output, width=200))
    return run.folder.resolve(), output.getvalue()


def test_a_run_s_own_recipe_has_its_prompts_wherever_it_is_run(
    recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, said = collect(recipe)
    assert KEPT not in said
    (Path.cwd() / "prompts.jsonl").write_text('{"prompt": "of somebody else"}', encoding="utf-8")
    again, said = collect(run / "recipe.yaml")
    assert again == run and KEPT in said
    monkeypatch.chdir(recipe.parent)
    loaded = load_recipe(str(run / "recipe.yaml"), [], default_registry())
    assert Path(loaded.recipe.corpus.path) == recipe.with_name("prompts.jsonl").resolve()


def test_other_places_and_limits_leave_answers_as_they_are(recipe: Path) -> None:
    run, _ = collect(recipe)
    moved = recipe.with_name("moved.jsonl")
    moved.write_bytes(recipe.with_name("prompts.jsonl").read_bytes())
    assert KEPT in collect(recipe, "corpus.path=moved.jsonl", "collect.max_prompt_tokens=99")[1]
    rows = moved.read_text(encoding="utf-8").splitlines(keepends=True)
    moved.write_text("".join(rows[1:]), encoding="utf-8")
    assert KEPT not in collect(recipe, "corpus.path=moved.jsonl")[1], "other prompts"
    assert len(load_examples(run / "stages/01-collect")) == len(rows) - 1


def answers(run: Path, name: str = "answers") -> dict[str, tuple[int, ...]]:
    """Answer tokens by the prompt's id."""
    stored = load_answers(run / "stages/01-collect", name)
    return {each.id: each.answer_ids for each in stored.values()}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Numbers of what the target is asked, as long as the test goes on."""
    ids: list[str] = []
    generate = Engine.generate

    def watched(self: Engine, requests: Sequence[Request], *args: Any, **kwargs: Any) -> Any:
        ids.extend(request.id for request in requests)
        return generate(self, requests, *args, **kwargs)

    monkeypatch.setattr(Engine, "generate", watched)
    return ids


def test_prompts_that_were_added_are_all_that_is_asked(recipe: Path, asked: list[str]) -> None:
    prompts = recipe.with_name("prompts.jsonl")
    rows = prompts.read_text(encoding="utf-8").splitlines(keepends=True)
    prompts.write_text("".join(rows[2:]), encoding="utf-8")
    run, _ = collect(recipe)
    before = answers(run)
    asked.clear()
    prompts.write_text("".join(rows), encoding="utf-8")
    run, said = collect(recipe)
    assert f"{len(before)} prompts were answered before" in said
    assert set(asked) == set(answers(run)) - set(before)
    whole, _ = collect(recipe, "name=anew")
    assert answers(run) == answers(whole)


def test_more_free_text_asks_for_nothing_else(recipe: Path, asked: list[str]) -> None:
    short, long = "collect.free_text_tokens=300", "collect.free_text_tokens=600"
    collect(recipe, short)
    first = [number for number in asked if number.startswith("free-")]
    asked.clear()
    run, _ = collect(recipe, long)
    assert asked and all(number.startswith("free-") for number in asked)
    assert not set(asked) & set(first)
    whole, _ = collect(recipe, long, "name=anew")
    assert answers(run, "free") == answers(whole, "free")


@pytest.mark.parametrize("change", ["collect.max_new_tokens=3", "target.system=Be brief."])
def test_what_answers_depend_on_has_all_asked_again(
    recipe: Path, asked: list[str], change: str
) -> None:
    run, _ = collect(recipe)
    asked.clear()
    run, said = collect(recipe, change)
    assert set(asked) == set(answers(run)) and "before" not in said


def test_another_seed_has_free_text_sampled_again(recipe: Path, asked: list[str]) -> None:
    free = "collect.free_text_tokens=300"
    run, _ = collect(recipe, free)
    before = answers(run, "free")
    run, _ = collect(recipe, free, "seed=5")
    assert set(answers(run, "free")) == set(before) and answers(run, "free") != before


def test_answers_that_were_altered_are_not_taken_over(recipe: Path, asked: list[str]) -> None:
    run, _ = collect(recipe)
    shard = run / "stages/01-collect/answers-0000.safetensors"
    shard.write_bytes(shard.read_bytes()[:-1] + b"?")
    asked.clear()
    run, said = collect(recipe, "collect.free_text_tokens=300")
    assert set(answers(run)) <= set(asked) and "before" not in said


def test_what_went_on_goes_on_with_the_same_answers(
    recipe: Path, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = recipe.with_name("prompts.jsonl")
    rows = prompts.read_text(encoding="utf-8").splitlines(keepends=True)
    prompts.write_text("".join(rows[2:]), encoding="utf-8")
    collect(recipe)
    prompts.write_text("".join(rows), encoding="utf-8")
    free = "collect.free_text_tokens=300"
    with monkeypatch.context() as patched:
        patched.setattr(Collect, "_free_requests", _interrupted)
        with pytest.raises(KeyboardInterrupt):
            collect(recipe, free)
    asked.clear()
    run, _ = collect(recipe, free)
    assert asked and all(number.startswith("free-") for number in asked)
    whole, _ = collect(recipe, free, "name=anew")
    assert answers(run) == answers(whole)


def test_what_an_interrupted_attempt_answered_serves_another_recipe(
    recipe: Path, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(Collect, "_free_requests", _interrupted)
        with pytest.raises(KeyboardInterrupt):
            collect(recipe)
    asked.clear()
    run, said = collect(recipe, "collect.free_text_tokens=300")
    assert asked and all(number.startswith("free-") for number in asked)
    assert f"{len(answers(run))} prompts were answered before" in said
    assert not [path for path in (run / "stages").iterdir() if path.name.startswith(".")]


def _interrupted(self: Collect, context: RunContext) -> list[Request]:
    raise KeyboardInterrupt
