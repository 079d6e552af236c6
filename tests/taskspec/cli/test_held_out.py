"""Prompts that a bundle is measured on are new to it, whatever the split says."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from taskspec.cli.held_out import held_out_prompts
from taskspec.corpus.readers import read_examples
from taskspec.corpus.splits import split_examples
from taskspec.errors import CorpusError
from taskspec.models.loading import load_language_model
from taskspec.recipe.schema import CorpusConfig
from taskspec.serving.seen import prompt_keys, write_seen

Draw = Callable[..., tuple[list[str], str]]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Prompts without splits: each run draws its own, by its seed."""
    path = tmp_path / "prompts.jsonl"
    rows = [json.dumps({"id": f"p{i}", "prompt": f"w{i % 80} w{i // 80}"}) for i in range(200)]
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def draw(corpus: Path, tiny_llama_folder: Path, tmp_path: Path) -> Draw:
    """A function that draws held-out prompts; their ids, and what it said."""
    target = load_language_model(str(tiny_llama_folder), device="cpu")
    bundle: Any = SimpleNamespace(target=target, manifest=SimpleNamespace(system=None))

    def draw(seen: frozenset[str] | None, seed: int = 0) -> tuple[list[str], str]:
        folder = tmp_path / f"bundle-{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        if seen is not None:
            write_seen(folder, seen)
        console = Console(file=io.StringIO(), width=200)
        found = held_out_prompts(bundle, folder, str(corpus), 200, 8, seed, console)
        assert isinstance(console.file, io.StringIO)
        return [each.id for each in found], console.file.getvalue()

    return draw


def trained_on(corpus: Path, seed: int) -> dict[str, str]:
    """Keys, by id, of what a run of this seed trains and chooses on."""
    examples = split_examples(read_examples(corpus), CorpusConfig(str(corpus)), seed)
    known = [each for each in examples if each.split != "test"]
    return {each.id: next(iter(prompt_keys([each]))) for each in known}


def test_prompts_that_a_run_of_another_seed_trained_on_are_left_out(
    draw: Draw, corpus: Path
) -> None:
    trained = trained_on(corpus, seed=6)
    drawn, _ = draw(frozenset())
    found, said = draw(frozenset(trained.values()))
    assert set(found) == set(drawn) - trained.keys()
    gone = len(drawn) - len(found)
    assert gone and f"note: {gone} prompts took part in training and are left out" in said


def test_with_the_run_s_own_seed_all_are_new(draw: Draw, corpus: Path) -> None:
    trained = trained_on(corpus, seed=6)
    found, said = draw(frozenset(trained.values()), seed=6)
    assert len(found) == 200 - len(trained) and said == ""


def test_a_bundle_that_does_not_say_gets_one_note(draw: Draw) -> None:
    _, said = draw(None)
    assert said.count("note:") == 1 and "run its recipe again" in said


def test_where_nothing_is_new_the_error_says_what_to_do(draw: Draw, corpus: Path) -> None:
    everything = prompt_keys(read_examples(corpus))
    with pytest.raises(
        CorpusError, match=r"has seen all \d+ held-out prompts .* the run's own --seed"
    ):
        draw(everything)


def test_a_file_of_held_out_prompts_alone_is_used(draw: Draw, corpus: Path) -> None:
    rows = [json.loads(line) for line in corpus.read_text(encoding="utf-8").splitlines()]
    marked = [json.dumps(row | {"split": "test"}) for row in rows[:3]]
    corpus.write_text("\n".join(marked), encoding="utf-8")
    assert len(draw(frozenset())[0]) == 3


def test_where_nothing_is_held_out_the_error_says_how_to_mark_prompts(
    draw: Draw, corpus: Path
) -> None:
    corpus.write_text('{"prompt": "w1", "split": "train"}\n', encoding="utf-8")
    with pytest.raises(CorpusError, match='holds out none of its 1 prompts; .*"split": "test"'):
        draw(frozenset())
