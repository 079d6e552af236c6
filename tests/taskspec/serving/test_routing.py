"""From a prompt to the draft that answers it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from taskspec_encoders.tfidf import Tfidf
from taskspec_routers.logistic import Logistic

from taskspec.recipe.assignment import RouteConfig
from taskspec.registry import default_registry
from taskspec.serving.routing import Assignment, PromptRouter, load_prompt_router

PROMPTS = {
    "code": [f"Write a Python function named {name}." for name in ("add", "sort", "find", "sum")],
    "math": [f"How much is {a} plus {a + 2}?" for a in (1, 4, 12, 30)],
}
CODE, MATH = Assignment("code", "small@task-0", 4), Assignment("math", "lookup", 2)
FALLBACK = Assignment("single", "small@all", 3)


@pytest.fixture(scope="module")
def router() -> PromptRouter:
    """A router fitted on the prompts, that never abstains."""
    texts = [text for each in PROMPTS.values() for text in each]
    encoder, classifier = Tfidf(), Logistic()
    encoder.fit(texts)
    classifier.fit(encoder.encode(texts), np.repeat([0, 1], 4), seed=0)
    return PromptRouter(encoder, classifier, [CODE, MATH], FALLBACK, threshold=0.0)


@pytest.mark.parametrize(
    ("text", "label", "assignment"),
    [("Write a Python function named mean.", 0, CODE), ("How much is 7 plus 8?", 1, MATH)],
)
def test_a_prompt_gets_the_assignment_of_its_likeliest_task(
    router: PromptRouter, text: str, label: int, assignment: Assignment
) -> None:
    route = router.route(text)
    assert (route.label, route.assignment) == (label, assignment)
    assert 0.5 < route.probability <= 1
    assert route.seconds > 0


def test_below_the_threshold_the_fallback_answers(router: PromptRouter) -> None:
    text = "How much is a Python function?"
    sure = router.route(text)
    route = replace(router, threshold=(sure.probability + 1) / 2).route(text)
    assert (route.label, route.assignment) == (None, FALLBACK)
    assert route.probability == sure.probability


def test_a_probability_at_the_threshold_is_enough(router: PromptRouter) -> None:
    text = "How much is a Python function?"
    sure = router.route(text)
    assert replace(router, threshold=sure.probability).route(text).assignment == sure.assignment


def test_a_saved_router_decides_the_same(router: PromptRouter, tmp_path: Path) -> None:
    for name, part in (("encoder", router.encoder), ("router", router.router)):
        (tmp_path / name).mkdir()
        part.save(tmp_path / name)
    registry = default_registry()
    loaded = load_prompt_router(
        tmp_path, RouteConfig(), registry, [CODE, MATH], FALLBACK, threshold=0.25
    )
    assert (loaded.fallback, loaded.threshold) == (FALLBACK, 0.25)
    for text in (*PROMPTS["code"], *PROMPTS["math"], "zyzzyva"):
        first, second = router.route(text), loaded.route(text)
        assert (second.label, second.probability) == (first.label, first.probability)


def test_a_text_of_which_the_encoder_knows_nothing_goes_to_the_fallback(
    router: PromptRouter,
) -> None:
    route = router.route("qqqq zzzz")
    assert route.label is None and route.assignment == FALLBACK
