"""The check of losslessness: of every task's prompts, with the verifier that the recipe names."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console
from torch import Tensor

from taskspec.corpus.examples import Example
from taskspec.decoding.records import Request
from taskspec.evaluation.table import Lossless
from taskspec.interfaces import Verdict, Verifier
from taskspec.models.loading import load_language_model
from taskspec.pipeline import held_out
from taskspec.pipeline.held_out import HeldOut, check_lossless
from taskspec.recipe.choice import PluginChoice
from taskspec.registry import default_registry
from taskspec.serving.pool import DraftEntry
from taskspec.serving.routing import Assignment, Route


class Careless(Verifier):
    """Lets everything stand, and says that nothing changes."""

    name = "careless"

    def verify(self, *_: Any) -> Verdict:
        raise AssertionError("every request is greedy")

    def verify_greedy(
        self, tokens: Tensor, lengths: Tensor, best: Tensor, vocabulary_size: int
    ) -> Verdict:
        return Verdict(lengths, best.gather(1, lengths[:, None])[:, 0])


class Frank(Careless):
    """Says that it changes answers."""

    name = "frank"
    lossless = False


class Registry:
    """The installed plugins, and those of this file."""

    def get(self, kind: str, name: str) -> Any:
        return {each.name: each for each in (Careless, Frank)}.get(name) or default_registry().get(
            kind, name
        )


def prompt(row: str, number: int, draft: str | None) -> HeldOut:
    """A prompt that holds nearly every token, so that looking up finds something to draft."""
    ids = (*range(4 + number, 94),)
    route = Route(Assignment(row, draft, 3 if draft else 0), 0, 1.0, 0.0)
    name = f"{row}-{number}"
    return HeldOut(Request(name, ids, 8), Example(name, ()), row, route)


@pytest.fixture
def check(tiny_llama_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that checks some prompts of two tasks, the second of which has a draft."""
    monkeypatch.setattr(held_out, "known_prefixes", lambda _: [(*range(5, 40),)])
    target = load_language_model(str(tiny_llama_folder), device="cpu")
    prompts = [
        *(prompt("plain", number, None) for number in range(3)),
        *(prompt("drafted", number, "lookup") for number in range(3)),
    ]
    entries = [DraftEntry("lookup", PluginChoice("prompt-lookup", {"min_ngram": 1}), tmp_path)]

    def run(verifier: str, count: int) -> Lossless:
        recipe = SimpleNamespace(
            evaluate=SimpleNamespace(lossless_prompts=count),
            decode=SimpleNamespace(verifier=PluginChoice(verifier)),
            collect=SimpleNamespace(batch_size=2),
        )
        context: Any = SimpleNamespace(
            recipe=recipe,
            registry=Registry(),
            target_in_float32=target,
            console=Console(quiet=True),
        )
        return check_lossless(context, entries, prompts)

    return run


def test_a_few_prompts_are_of_every_task_and_the_recipes_verifier_is_checked(check: Any) -> None:
    assert check("careless", 2) == Lossless(2, 1, "float32")
    assert check("careless", 50) == Lossless(6, 3, "float32")
    assert check("rejection", 50) == Lossless(6, 0, "float32")
    assert check("careless", 0) == Lossless(0, 0, "float32")


@pytest.mark.parametrize("verifier", ["frank", "typical"])
def test_greedy_stands_in_for_a_verifier_that_does_not_claim_it(check: Any, verifier: str) -> None:
    assert check(verifier, 6) == Lossless(6, 0, "float32")
