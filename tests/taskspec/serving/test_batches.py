"""Many prompts at once: refused together before any work, and measured as they will run."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from taskspec_drafters.prompt_lookup import PromptLookup
from taskspec_drafters.suffix import Suffix
from taskspec_verifiers.greedy import Greedy

from taskspec.corpus.examples import Example, Message
from taskspec.decoding.correction import Correction
from taskspec.decoding.cost import TargetCost
from taskspec.decoding.engine import Engine
from taskspec.decoding.pacing import Pace
from taskspec.decoding.prices import Prices
from taskspec.errors import DecodingError
from taskspec.recipe.choice import PluginChoice
from taskspec.serving import batches
from taskspec.serving.batches import answer_all
from taskspec.serving.bundle import Bundle
from taskspec.serving.pool import DraftEntry, Pool
from taskspec.serving.routing import Assignment, Route
from taskspec.testing.toy_target import toy_target

LOOKUP = DraftEntry("lookup", PluginChoice("prompt-lookup"), Path("lookup"))
CODE = Assignment("code", "lookup", 2)


def prompt(name: str, tokens: int) -> Example:
    """A prompt of so many tokens."""
    return Example(name, (Message("user", str(tokens)),))


def bundle(corrected: bool = False) -> Bundle:
    """The toy target with a draft that copies; a prompt says how many tokens it has."""
    decode = {"temperature": 0.0, "top_k": 0, "top_p": 1.0, "correction": {"use": corrected}}
    manifest: Any = SimpleNamespace(decode=decode, system=None)
    target: Any = SimpleNamespace(
        chat_ids=lambda messages, _: tuple(5 + n % 7 for n in range(int(messages[-1].content))),
        tokenizer=toy_target().tokenizer,
    )
    pool = Pool({LOOKUP.key: PromptLookup()}, {LOOKUP.name: LOOKUP})
    router: Any = SimpleNamespace(route=lambda _: Route(CODE, 0, 0.9, 0.0))
    return Bundle(manifest, target, pool, router, Engine(toy_target(), Greedy(), pool.drafters))


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of rows that costs are measured for."""
    rows: list[int] = []

    def pace(_: Bundle, __: Any, count: int) -> Pace:
        rows.append(count)
        return Pace(TargetCost((1.0,)), 0.0, {})

    def correction(_: Bundle, __: Any, count: int) -> Correction:
        rows.append(count)
        return Correction(Prices(TargetCost((1.0,)), 0.1), (), 0.0, 0.0)

    monkeypatch.setattr(batches, "measure_pace", pace)
    monkeypatch.setattr(batches, "measure_correction", correction)
    return rows


@pytest.mark.parametrize("corrected", [False, True])
@pytest.mark.parametrize(("prompts", "batch_size", "rows"), [(3, 8, 3), (3, 2, 2)])
def test_costs_are_measured_for_the_rows_that_will_run(
    measured: list[int], corrected: bool, prompts: int, batch_size: int, rows: int
) -> None:
    asked = [prompt(str(n), 4 + n) for n in range(prompts)]
    found = answer_all(bundle(corrected), asked, 4, batch_size)
    assert len(found) == prompts and measured == [rows]


def test_a_single_prompt_needs_no_pace(measured: list[int]) -> None:
    assert len(answer_all(bundle(), [prompt("one", 4)], 4, 8)) == 1
    assert answer_all(bundle(), [], 4, 8) == [] and not measured


def test_prompts_that_do_not_fit_are_all_named_before_anything_is_measured(
    measured: list[int],
) -> None:
    asked = [prompt("fits", 9), *(prompt(f"long-{n}", 128 + n) for n in range(12))]
    with pytest.raises(DecodingError) as told:
        answer_all(bundle(), asked, 4, 4)
    lines = str(told.value).splitlines()
    assert lines[0].startswith("request long-0: the prompt has 128 tokens, the model's context")
    assert len(lines) == 11 and lines[-1] == "... and 2 more" and not measured


def test_answers_are_remembered_from_one_prompt_to_the_next_if_the_recipe_says_so(
    measured: list[int],
) -> None:
    passes = []
    for most in (0, 1000):
        suffix = DraftEntry("suffix", PluginChoice("suffix"), Path("suffix"))
        pool = Pool({suffix.key: Suffix()}, {suffix.name: suffix})
        own = Assignment("code", "suffix", 4)
        given = bundle()
        given.manifest.decode["remember"] = most  # type: ignore[index]
        given.manifest.fallback = own  # type: ignore[misc]
        router: Any = SimpleNamespace(route=lambda _, own=own: Route(own, 0, 0.9, 0.0))
        engine = Engine(toy_target(), Greedy(), pool.drafters)
        remembering = Bundle(given.manifest, given.target, pool, router, engine)
        found = answer_all(remembering, [prompt("one", 9), prompt("two", 9)], 16, 1)
        assert found[0].generation.tokens == found[1].generation.tokens
        passes.append([len(each.generation.steps) for each in found])
    assert passes[0][0] == passes[0][1] == passes[1][0] > passes[1][1]
