"""The other routers: what each does beyond the contract that the kit checks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from taskspec_routers.calibration import held_out_scores, inverse_temperature
from taskspec_routers.knn import KNN, KNNOptions
from taskspec_routers.mamba import Mamba, MambaOptions
from taskspec_routers.mlp import MLP, MLPOptions

Prompts = tuple[NDArray[np.float32], NDArray[np.int64]]

FRAMES = ("first the {} and then the {}", "the {} comes after the {}")
WORDS = ("cat", "dog", "tree", "house", "river", "stone", "bread", "wind")


def prompts(*sizes: int, spread: float = 0.1, seed: int = 0) -> Prompts:
    """Vectors around one axis per task, shuffled, and the task of each."""
    generator = np.random.default_rng(seed)
    labels = generator.permutation(np.repeat(np.arange(len(sizes)), sizes))
    vectors = np.eye(4)[labels] + generator.normal(0, spread, (len(labels), 4))
    return vectors.astype(np.float32), labels.astype(np.int64)


def sentences(count: int, seed: int = 0) -> tuple[list[str], NDArray[np.int64]]:
    """Texts of two tasks that share their words, but for a few of the frame."""
    generator = np.random.default_rng(seed)
    labels = generator.permutation(np.arange(count) % 2)
    texts = [FRAMES[label].format(*generator.choice(WORDS, 2)) for label in labels]
    return texts, labels.astype(np.int64)


@pytest.mark.parametrize("router", [MLP(), KNN()])
def test_confidence_is_about_as_high_as_accuracy(router: Any) -> None:
    router.fit(*prompts(150, 150, 150, spread=0.6), 0)
    vectors, labels = prompts(500, 500, 500, spread=0.6, seed=1)
    probabilities = router.predict_proba(vectors)
    accuracy = float((probabilities.argmax(axis=1) == labels).mean())
    assert 0.6 < accuracy < 0.95
    assert probabilities.max(axis=1).mean() == pytest.approx(accuracy, abs=0.06)


@pytest.mark.parametrize("router", [MLP(), KNN()])
def test_labels_at_random_leave_it_undecided(router: Any) -> None:
    vectors, labels = prompts(60, 60, spread=1.0)
    router.fit(vectors, np.random.default_rng(1).permutation(labels), 0)
    assert router.predict_proba(vectors).max() < 0.8


def test_a_layer_in_between_learns_what_no_line_divides() -> None:
    generator = np.random.default_rng(0)
    vectors = generator.uniform(-1, 1, (400, 2)).astype(np.float32)
    labels = (vectors[:, 0] * vectors[:, 1] > 0).astype(np.int64)
    router = MLP(MLPOptions(epochs=60))
    router.fit(vectors[:300], labels[:300], 0)
    guessed = router.predict_proba(vectors[300:]).argmax(axis=1)
    assert (guessed == labels[300:]).mean() > 0.9


def test_a_prompt_near_nothing_gets_equal_shares() -> None:
    router = KNN()
    router.fit(*prompts(30, 30, 30), 0)
    shares = router.predict_proba(np.zeros((1, 4), dtype=np.float32))
    np.testing.assert_allclose(shares, 1 / 3, atol=0.02)


def test_more_neighbours_than_prompts_are_all_prompts() -> None:
    router = KNN(KNNOptions(neighbours=50))
    router.fit(*prompts(5, 3), 0)
    assert router.predict_proba(prompts(5, 3)[0]).shape == (8, 2)


def test_mamba_reads_the_prompts_themselves(tmp_path: Path) -> None:
    router = Mamba(MambaOptions(epochs=6))
    router.fit(*sentences(160), 0)
    texts, labels = sentences(60, seed=1)
    probabilities = router.predict_proba(texts)
    assert (probabilities.argmax(axis=1) == labels).mean() > 0.95
    router.save(tmp_path)
    assert {path.suffix for path in tmp_path.iterdir()} == {".safetensors", ".json"}
    loaded = Mamba.load(tmp_path, router.options)
    np.testing.assert_allclose(loaded.predict_proba(texts), probabilities, atol=1e-6)


def test_mamba_takes_prompts_of_any_length() -> None:
    router = Mamba(MambaOptions(epochs=1, max_tokens=10))
    router.fit(*sentences(40), 0)
    found = router.predict_proba(["", "the " * 5000, "漢字 Ωμέγα"])
    assert np.isfinite(found).all() and found.shape == (3, 2)


@pytest.mark.parametrize(
    ("options", "wrong"),
    [
        (MLPOptions, {"hidden": 0}),
        (MLPOptions, {"learning_rate": 0.0}),
        (KNNOptions, {"neighbours": 0}),
        (MambaOptions, {"vocabulary": 10}),
        (MambaOptions, {"max_tokens": 1}),
        (MambaOptions, {"epochs": 0}),
    ],
)
def test_options_out_of_range_are_refused(options: Any, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"^{next(iter(wrong))} must"):
        options(**wrong)


def test_scores_are_sharpened_when_they_are_right_and_flattened_when_not() -> None:
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 3, 500)
    right = np.eye(3)[labels] * 0.1
    assert inverse_temperature(right, labels) > 10
    assert inverse_temperature(right * 100, generator.permutation(labels)) < 0.1
    assert inverse_temperature(np.zeros((5, 1)), np.zeros(5, dtype=np.int64)) == 1


def test_every_prompt_is_scored_by_a_model_that_did_not_see_it() -> None:
    labels = np.arange(23) % 3

    def fit(kept: NDArray[np.bool_]) -> Any:
        def score(held: NDArray[np.bool_]) -> NDArray[np.float64]:
            assert not (kept & held).any()
            return np.eye(3)[labels[held]]

        return score

    scores, scored = held_out_scores(labels, 0, fit)
    assert sorted(scored) == sorted(labels)
    assert (scores.argmax(axis=1) == scored).all()
    assert len(held_out_scores(labels, 0, fit, folds=1)[1]) in (4, 5)
