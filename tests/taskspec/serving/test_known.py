"""Which prompts lie where a run's prompts lie."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from taskspec_encoders.tfidf import Tfidf
from taskspec_routers.logistic import Logistic

from taskspec.errors import ArtifactError
from taskspec.recipe.assignment import RouteConfig
from taskspec.registry import default_registry
from taskspec.serving.known import KnownPrompts, load_known, measure_known, save_known
from taskspec.serving.routing import Assignment, PromptRouter, load_prompt_router

CODE, MATH = Assignment("code", "small@task-0", 4), Assignment("math", "lookup", 2)
FALLBACK = Assignment("single", "small@all", 3)


def near(centers: np.ndarray, count: int, seed: int, width: float = 0.1) -> np.ndarray:
    """Unit vectors around centers, in turn; most of their spread is along the last axis."""
    generator = np.random.default_rng(seed)
    vectors = centers[np.arange(count) % len(centers)] + width * generator.normal(
        size=(count, centers.shape[1])
    ) * np.array([0.2, 0.2, 0.2, 1.0])
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


CENTERS = np.eye(4)[:2]


@pytest.fixture(scope="module")
def known() -> KnownPrompts:
    found = measure_known(near(CENTERS, 400, 0), np.arange(400) % 2, near(CENTERS, 300, 1))
    assert found is not None
    return found


def test_few_known_prompts_lie_beyond_the_limit_and_a_new_task_does(known: KnownPrompts) -> None:
    assert (known.distances(near(CENTERS, 1000, 2)) > 1).mean() < 0.03
    assert (known.distances(near(np.eye(4)[2:3], 100, 3)) > 1).all()
    assert known.nearest(near(CENTERS, 6, 5)).tolist() == [0, 1] * 3


def test_what_tells_is_the_direction_in_which_known_prompts_do_not_differ(
    known: KnownPrompts,
) -> None:
    along, across = (np.array([[1.0, 0, *rest]], np.float32) for rest in ((0, 0.2), (0.2, 0)))
    assert known.distances(along)[0] < 1 < known.distances(across)[0]


def test_a_text_of_which_the_encoder_knows_nothing_is_unknown(known: KnownPrompts) -> None:
    assert np.isinf(known.distances(np.zeros((1, 4), np.float32))[0])


@given(st.integers(1, 400), st.integers(0, 5))
@settings(max_examples=20, deadline=None)
def test_the_limit_is_the_validation_prompts_own_rank(count: int, seed: int) -> None:
    train, held = near(CENTERS, 60, seed), near(CENTERS, count, seed + 10)
    found = measure_known(train, np.arange(60) % 2, held)
    assert found is not None
    beyond = int((found.distances(held) > 1 + 1e-9).sum())
    assert (found.validation, found.beyond) == (count, beyond)
    assert (count - beyond) / (count + 1) >= min(0.99, count / (count + 1)) - 1e-9


@pytest.mark.parametrize("held", [np.zeros((0, 4)), np.zeros((3, 4)), CENTERS])
def test_distances_that_tell_nothing_are_not_kept(held: np.ndarray) -> None:
    train = np.repeat(CENTERS, 5, axis=0).astype(np.float32)
    assert measure_known(train, np.repeat([0, 1], 5), held.astype(np.float32)) is None


def test_what_was_saved_measures_the_same(known: KnownPrompts, tmp_path: Path) -> None:
    assert load_known(tmp_path) is None
    save_known(known, tmp_path)
    loaded = load_known(tmp_path)
    assert loaded is not None and (loaded.validation, loaded.beyond) == (300, known.beyond)
    vectors = near(np.eye(4), 40, 4)
    np.testing.assert_array_equal(loaded.distances(vectors), known.distances(vectors))


@pytest.fixture(scope="module")
def router() -> PromptRouter:
    """A router that is sure of everything, with distances from two tasks' prompts."""
    code = [
        *("Write a Python function named add.", "Please write one short Python function."),
        *("Write a function in Python that sorts.", "A Python function that finds, please."),
    ]
    math = [
        *("How much is 1 plus 3?", "How much are 4 apples plus 6?"),
        *("What is 12 plus 14?", "What are 30 apples plus 32, how much?"),
    ]
    encoder, classifier = Tfidf(), Logistic()
    encoder.fit(code + math)
    vectors, labels = encoder.encode(code + math), np.repeat([0, 1], 4)
    classifier.fit(vectors, labels, seed=0)
    held = encoder.encode(["Write a Python function named mean.", "How much is 7 plus 9?"])
    known = measure_known(vectors, labels, held)
    assert known is not None
    return PromptRouter(encoder, classifier, [CODE, MATH], FALLBACK, 0.0, known)


STRANGE = "How much is a Python function named seven?"


def test_the_fallback_answers_unknown_prompts_only_in_quarantine(router: PromptRouter) -> None:
    route = router.route(STRANGE)
    assert route.unknown and route.label is not None
    kept = replace(router, quarantine=True)
    assert (kept.route(STRANGE).label, kept.route(STRANGE).assignment) == (None, FALLBACK)
    assert kept.route(STRANGE).distance == route.distance
    assert kept.route("How much is 7 plus 9?").assignment == MATH


def test_quarantine_needs_distances(router: PromptRouter, tmp_path: Path) -> None:
    for name, part in (("encoder", router.encoder), ("router", router.router)):
        (tmp_path / name).mkdir()
        part.save(tmp_path / name)

    def load(quarantine: bool) -> PromptRouter:
        config = RouteConfig(threshold=0.0, quarantine=quarantine)
        tasks = [CODE, MATH]
        return load_prompt_router(tmp_path, config, default_registry(), tasks, FALLBACK, 0.0)

    route = load(quarantine=False).route(STRANGE)
    assert route.distance is None and not route.unknown
    with pytest.raises(ArtifactError, match=r"older than route\.quarantine"):
        load(quarantine=True)
    assert router.known is not None
    save_known(router.known, tmp_path)
    assert load(quarantine=True).route(STRANGE).label is None
