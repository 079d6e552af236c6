"""HDBSCAN: dense groups are tasks, what lies between is noise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from taskspec_partitioners.hdbscan import HdbscanOptions, HdbscanPartitioner

from taskspec.errors import CorpusError
from taskspec.evaluation.clustering import score_clustering
from taskspec.interfaces import PartitionContext


def blobs(*sizes: int, spread: float = 0.05, seed: int = 0) -> tuple[NDArray[Any], list[str]]:
    """Unit vectors around one axis per blob, shuffled, and the blob of each."""
    generator = np.random.default_rng(seed)
    kinds = generator.permutation(np.repeat(np.arange(len(sizes)), sizes))
    vectors = np.eye(8)[kinds] + generator.normal(0, spread, (len(kinds), 8))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype(np.float32), [f"blob {kind}" for kind in kinds]


def between(count: int, seed: int = 1) -> NDArray[np.float32]:
    """Unit vectors in any direction."""
    vectors = np.random.default_rng(seed).normal(size=(count, 8))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def fit(
    vectors: NDArray[Any], seed: int = 0, **options: Any
) -> tuple[HdbscanPartitioner, NDArray[np.int64]]:
    partitioner = HdbscanPartitioner(HdbscanOptions(**options))
    return partitioner, partitioner.fit(vectors, [""] * len(vectors), PartitionContext(seed))


@pytest.mark.parametrize("count", [2, 3, 4, 5, 6])
def test_tasks_that_stand_apart_are_found_without_their_number(count: int) -> None:
    vectors, kinds = blobs(*range(30, 30 + 3 * count, 3))
    _, labels = fit(vectors)
    assert labels.dtype == np.int64
    score = score_clustering(labels.tolist(), kinds)
    assert score.clusters == count
    assert score.accuracy > 0.95


def test_prompts_between_the_tasks_are_noise() -> None:
    vectors, kinds = blobs(60, 60, 60, spread=0.02)
    _, labels = fit(np.concatenate([vectors, between(12)]), dimensions=0)
    assert (labels[len(kinds) :] == -1).mean() >= 0.5
    assert (labels[: len(kinds)] == -1).mean() < 0.05


def test_the_largest_task_is_first() -> None:
    vectors, kinds = blobs(30, 70, 50, spread=0.02)
    _, labels = fit(vectors, dimensions=0)
    sizes = np.bincount(labels[labels >= 0])
    assert len(sizes) == 3
    assert sizes.tolist() == sorted(sizes, reverse=True)
    assert set(np.array(kinds)[labels == 0]) == {"blob 1"}


def test_the_seed_does_not_matter_and_neither_does_repetition() -> None:
    vectors, _ = blobs(40, 40, 40, spread=0.2)
    np.testing.assert_array_equal(fit(vectors, seed=1)[1], fit(vectors, seed=2)[1])


def test_new_prompts_join_the_task_they_lie_in() -> None:
    vectors, kinds = blobs(60, 50, 40)
    partitioner, labels = fit(vectors)
    fresh, fresh_kinds = blobs(10, 10, 10, seed=5)
    names = {kind: label for kind, label in zip(kinds, labels.tolist(), strict=True) if label >= 0}
    right = [names[kind] for kind in fresh_kinds]
    assert (partitioner.predict(fresh, fresh_kinds) == right).mean() > 0.9


def test_new_prompts_far_from_every_task_are_noise() -> None:
    vectors, _ = blobs(60, 60, spread=0.02)
    partitioner, _ = fit(vectors, dimensions=0)
    far = np.eye(8, dtype=np.float32)[5:]
    assert partitioner.predict(far, [""] * 3).tolist() == [-1, -1, -1]


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), spread=st.sampled_from([0.02, 0.1, 0.2]))
def test_training_prompts_with_a_task_are_predicted_that_task(seed: int, spread: float) -> None:
    vectors, kinds = blobs(50, 40, 30, spread=spread, seed=seed)
    partitioner, labels = fit(vectors, min_samples=5)
    known = labels >= 0
    assert (partitioner.predict(vectors, kinds)[known] == labels[known]).mean() > 0.95


def test_a_prediction_does_not_depend_on_the_rest_of_the_batch() -> None:
    vectors, kinds = blobs(40, 40, 40, spread=0.2)
    partitioner, _ = fit(vectors)
    alone = [int(partitioner.predict(row[None], [""])[0]) for row in vectors[:20]]
    assert partitioner.predict(vectors, kinds)[:20].tolist() == alone
    assert partitioner.predict(vectors[:0], []).shape == (0,)


def test_saved_and_loaded_it_predicts_the_same_without_pickle(tmp_path: Path) -> None:
    vectors, kinds = blobs(40, 30, 30, spread=0.2)
    partitioner, _ = fit(vectors)
    partitioner.save(tmp_path)
    loaded = HdbscanPartitioner.load(tmp_path, partitioner.options)
    others = np.concatenate([vectors, between(30)])
    np.testing.assert_array_equal(loaded.predict(others, kinds), partitioner.predict(others, kinds))
    assert {path.suffix for path in tmp_path.iterdir()} == {".safetensors"}


def test_a_larger_smallest_task_gives_fewer_tasks() -> None:
    vectors, _ = blobs(100, 100, 20)
    assert fit(vectors, min_cluster_size=15)[1].max() == 2
    assert fit(vectors, min_cluster_size=30)[1].max() == 1


def test_one_task_is_found_only_where_that_is_allowed() -> None:
    vectors = np.repeat(np.eye(8, dtype=np.float32)[:1], 40, axis=0)
    with pytest.raises(CorpusError, match="no group .*allow_one_task"):
        fit(vectors)
    partitioner, labels = fit(vectors, allow_one_task=True)
    assert labels.tolist() == [0] * 40
    assert partitioner.predict(vectors[:3], [""] * 3).tolist() == [0, 0, 0]


@pytest.mark.parametrize("count", [0, 1, 9])
def test_too_few_prompts_are_refused_with_the_number_needed(count: int) -> None:
    vectors, _ = blobs(5, 4)
    with pytest.raises(CorpusError, match=rf"{count} prompts are too few, 11 are needed.*lower"):
        fit(vectors[:count])


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"min_cluster_size": 1}, "min_cluster_size"),
        ({"min_cluster_size": "many"}, "min_cluster_size"),
        ({"min_cluster_size": True}, "min_cluster_size"),
        ({"min_share": 0.0}, "min_share"),
        ({"min_share": 0.6}, "min_share"),
        ({"min_samples": 0}, "min_samples"),
        ({"dimensions": -1}, "dimensions"),
        ({"selection": "all"}, "selection"),
    ],
)
def test_options_out_of_range_are_refused(wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=f"^{named}"):
        HdbscanOptions(**wrong)
