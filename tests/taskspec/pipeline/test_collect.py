"""What is collected follows from what the prompts say, not from where they lie."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from taskspec.pipeline.collect import Collect, load_examples
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
