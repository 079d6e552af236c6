"""k-means: the tasks, and how many there are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from taskspec_partitioners.kmeans import KMeansOptions, KMeansPartitioner

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


def fit(
    vectors: NDArray[Any], seed: int = 0, **options: Any
) -> tuple[KMeansPartitioner, NDArray[np.int64]]:
    partitioner = KMeansPartitioner(KMeansOptions(**options))
    return partitioner, partitioner.fit(vectors, [""] * len(vectors), PartitionContext(seed))


@pytest.mark.parametrize("count", [2, 3, 4, 5, 6])
def test_auto_finds_tasks_that_stand_apart(count: int) -> None:
    vectors, kinds = blobs(*range(20, 20 + 3 * count, 3))
    _, labels = fit(vectors, max_clusters=7)
    assert labels.dtype == np.int64
    score = score_clustering(labels.tolist(), kinds)
    assert (score.clusters, score.accuracy) == (count, 1.0)


def test_labels_are_contiguous_and_the_largest_task_is_first() -> None:
    vectors, _ = blobs(20, 50, 10, 40)
    _, labels = fit(vectors, clusters=4)
    assert np.bincount(labels).tolist() == [50, 40, 20, 10]


def test_the_same_seed_gives_the_same_tasks() -> None:
    vectors, _ = blobs(20, 20, 20, spread=0.4)
    first, second = (fit(vectors, seed=3, max_clusters=4)[1] for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_prediction_agrees_with_fitting() -> None:
    vectors, kinds = blobs(40, 30, 20)
    partitioner, labels = fit(vectors, clusters=3)
    np.testing.assert_array_equal(partitioner.predict(vectors, kinds), labels)
    fresh, fresh_kinds = blobs(5, 5, 5, seed=1)
    predicted = partitioner.predict(fresh, fresh_kinds)
    names = dict(zip(kinds, labels.tolist(), strict=True))
    assert predicted.tolist() == [names[kind] for kind in fresh_kinds]


def test_saved_and_loaded_it_predicts_the_same(tmp_path: Path) -> None:
    vectors, kinds = blobs(40, 30, 20, spread=0.4)
    partitioner, labels = fit(vectors, clusters=3)
    partitioner.save(tmp_path)
    loaded = KMeansPartitioner.load(tmp_path, KMeansOptions())
    np.testing.assert_array_equal(loaded.predict(vectors, kinds), labels)
    assert {path.suffix for path in tmp_path.iterdir()} == {".safetensors"}


def test_one_blob_is_one_task_where_that_is_allowed() -> None:
    vectors, _ = blobs(80)
    assert set(fit(vectors, min_clusters=1, max_clusters=4)[1]) == {0}
    assert len(set(fit(vectors, max_clusters=4)[1])) >= 2
    apart, _ = blobs(40, 40)
    assert set(fit(apart, min_clusters=1, max_clusters=4)[1]) == {0, 1}


def test_auto_stays_within_its_bounds() -> None:
    vectors, _ = blobs(30, 30, 30, 30)
    assert fit(vectors, max_clusters=3)[1].max() + 1 <= 3
    assert fit(vectors, min_clusters=5, max_clusters=6)[1].max() + 1 >= 5


def test_a_sample_of_the_prompts_is_enough_for_auto() -> None:
    vectors, kinds = blobs(100, 90, 80)
    _, labels = fit(vectors, sample=60, max_clusters=4)
    assert score_clustering(labels.tolist(), kinds).accuracy == 1.0


def test_many_prompts_are_clustered_in_mini_batches() -> None:
    vectors, kinds = blobs(100, 90, 80)
    _, labels = fit(vectors, clusters=3, mini_batch_above=200)
    assert score_clustering(labels.tolist(), kinds).accuracy == 1.0


def test_fewer_different_prompts_than_tasks_are_refused() -> None:
    vectors = np.repeat(np.eye(2, dtype=np.float32), 10, axis=0)
    with pytest.raises(CorpusError, match=r"2 different prompts cannot make 3 tasks.*lower"):
        fit(vectors, clusters=3)
    assert fit(vectors, clusters=2)[1].tolist() in ([0] * 10 + [1] * 10, [1] * 10 + [0] * 10)


@pytest.mark.parametrize("clusters", ["auto", 1])
def test_no_prompts_are_refused(clusters: str | int) -> None:
    with pytest.raises(CorpusError, match="0 different prompts"):
        fit(np.zeros((0, 4), dtype=np.float32), clusters=clusters)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"clusters": 0}, "clusters"),
        ({"clusters": "many"}, "clusters"),
        ({"clusters": True}, "clusters"),
        ({"clusters": 2.5}, "clusters"),
        ({"min_clusters": 0}, "min_clusters"),
        ({"min_clusters": 5, "max_clusters": 4}, "max_clusters"),
        ({"min_clusters": 1, "max_clusters": 1}, "max_clusters"),
        ({"sample": 9}, "sample"),
        ({"mini_batch_above": 0}, "mini_batch_above"),
    ],
)
def test_options_out_of_range_are_refused(wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        KMeansOptions(**wrong)
