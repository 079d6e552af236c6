"""The logistic router: probabilities that mean what they say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from taskspec_routers.logistic import Logistic, LogisticOptions

Prompts = tuple[NDArray[np.float32], NDArray[np.int64]]


def prompts(*sizes: int, spread: float = 0.1, seed: int = 0) -> Prompts:
    """Vectors around one axis per task, shuffled, and the task of each."""
    generator = np.random.default_rng(seed)
    labels = generator.permutation(np.repeat(np.arange(len(sizes)), sizes))
    vectors = np.eye(4)[labels] + generator.normal(0, spread, (len(labels), 4))
    return vectors.astype(np.float32), labels.astype(np.int64)


def fitted(known: Prompts, seed: int = 0, strength: float = 10.0) -> Logistic:
    router = Logistic(LogisticOptions(strength))
    router.fit(*known, seed)
    return router


@pytest.mark.parametrize("tasks", [1, 2, 3, 4])
def test_every_prompt_gets_a_distribution_over_the_tasks(tasks: int) -> None:
    vectors, labels = prompts(*[20] * tasks)
    probabilities = fitted((vectors, labels)).predict_proba(vectors)
    assert probabilities.shape == (len(vectors), tasks)
    assert probabilities.dtype == np.float32
    assert (probabilities >= 0).all()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize("tasks", [2, 3, 4])
def test_columns_are_in_the_order_of_labels(tasks: int) -> None:
    router = fitted(prompts(*range(40, 40 - 8 * tasks, -8)))
    vectors, labels = prompts(*[10] * tasks, seed=1)
    assert router.predict_proba(vectors).argmax(axis=1).tolist() == labels.tolist()


def test_a_single_task_is_certain() -> None:
    vectors, labels = prompts(5)
    np.testing.assert_array_equal(fitted((vectors, labels)).predict_proba(vectors), 1)


def test_a_task_with_a_single_prompt_is_learnt() -> None:
    router = fitted(prompts(20, 1, 20, spread=0.01))
    assert router.predict_proba(np.eye(4, dtype=np.float32)[:3]).argmax(axis=1).tolist() == [
        0,
        1,
        2,
    ]


def test_one_prompt_is_enough() -> None:
    vectors, labels = prompts(1)
    np.testing.assert_array_equal(fitted((vectors, labels)).predict_proba(vectors), 1)


def test_a_prompt_without_a_known_word_gets_a_distribution_too() -> None:
    router = fitted(prompts(30, 30, 30))
    probabilities = router.predict_proba(np.zeros((1, 4), dtype=np.float32))
    assert np.isfinite(probabilities).all()
    assert probabilities.sum() == pytest.approx(1)


def test_confidence_is_about_as_high_as_accuracy() -> None:
    router = fitted(prompts(150, 150, 150, spread=0.6))
    vectors, labels = prompts(500, 500, 500, spread=0.6, seed=1)
    probabilities = router.predict_proba(vectors)
    accuracy = float((probabilities.argmax(axis=1) == labels).mean())
    assert 0.6 < accuracy < 0.95
    assert probabilities.max(axis=1).mean() == pytest.approx(accuracy, abs=0.04)


def test_labels_at_random_leave_it_undecided() -> None:
    vectors, labels = prompts(60, 60, spread=1.0)
    shuffled = np.random.default_rng(1).permutation(labels)
    assert fitted((vectors, shuffled), strength=1e4).predict_proba(vectors).max() < 0.8


def test_saved_and_loaded_it_gives_equal_probabilities(tmp_path: Path) -> None:
    vectors, labels = prompts(20, 15, 10)
    router = fitted((vectors, labels))
    router.save(tmp_path)
    loaded = Logistic.load(tmp_path, LogisticOptions())
    np.testing.assert_array_equal(loaded.predict_proba(vectors), router.predict_proba(vectors))
    assert {path.suffix for path in tmp_path.iterdir()} == {".safetensors"}


def test_the_same_seed_gives_the_same_router() -> None:
    known = prompts(20, 15, 10, spread=0.5)
    first, second = (fitted(known, seed=5).predict_proba(known[0]) for _ in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("strength", [0.0, -1.0])
def test_options_out_of_range_are_refused(strength: float) -> None:
    with pytest.raises(ValueError, match="strength must be positive"):
        LogisticOptions(strength)
