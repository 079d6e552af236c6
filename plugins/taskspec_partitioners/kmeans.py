"""k-means, with the number of tasks found from the prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from taskspec.errors import CorpusError
from taskspec.interfaces import PartitionContext, Partitioner, option

_AUTO = "auto"
_SPLITS = 6
_TRIES = 10
_STRENGTH_OF_ONE_TASK = 0.8
"""Without a count this strong the prompts are one task (Tibshirani & Walther use 0.8 to 0.9)."""
_FINENESS = 1 / 12
"""Exponent of the count: a split of two tasks in three must cost less than 4 % of strength."""


@dataclass(frozen=True)
class KMeansOptions:
    """Options of `kmeans`."""

    clusters: Any = option(_AUTO, "Number of tasks, or `auto` to find it from the prompts.")
    min_clusters: int = option(2, "Fewest tasks that `auto` considers; 1 lets it find no split.")
    max_clusters: int = option(10, "Most tasks that `auto` considers.")
    sample: int = option(2000, "Prompts that `auto` looks at; more are sampled.")
    mini_batch_above: int = option(20_000, "Prompts from which on mini-batch k-means is used.")

    def __post_init__(self) -> None:
        count = self.clusters
        if count != _AUTO and (isinstance(count, bool) or not isinstance(count, int) or count < 1):
            raise ValueError(f"clusters must be 'auto' or at least 1, not {count!r}")
        if not 1 <= self.min_clusters <= self.max_clusters:
            raise ValueError("min_clusters must be at least 1 and at most max_clusters")
        if self.max_clusters < 2:
            raise ValueError("max_clusters must be at least 2; for one task write clusters: 1")
        if self.sample < 10 or self.mini_batch_above < 1:
            raise ValueError("sample must be at least 10 and mini_batch_above at least 1")


class KMeansPartitioner(Partitioner):
    """k-means on the encoder's vectors, as in TaskSpec (arXiv 2505.08600, section on partitioning).

    `auto` takes the number of clusters that come again most strongly in other prompts
    (prediction strength, Tibshirani & Walther 2005), and of counts about as strong the larger.
    Silhouette is no guide here: prompts made from templates fall into ever tighter sub-clusters,
    so that it grows with the count.
    """

    name = "kmeans"
    Options = KMeansOptions

    def __init__(self, options: KMeansOptions | None = None) -> None:
        super().__init__(options)
        self._centers: NDArray[np.float32] | None = None

    def fit(
        self, vectors: NDArray[np.float32], texts: Sequence[str], context: PartitionContext
    ) -> NDArray[np.int64]:
        """Cluster the vectors; labels int64 [N] are 0..C-1, the largest task first.

        Raises:
            CorpusError: With fewer different prompts than tasks asked for.
        """
        wanted = self.options.clusters
        count = self._find_count(vectors, context.seed) if wanted == _AUTO else int(wanted)
        different = _count_different(vectors)
        if different < count or not len(vectors):
            raise CorpusError(
                f"kmeans: {different} different prompts cannot make {count} tasks; add prompts or "
                "lower partition.options.clusters"
            )
        model = self._cluster(vectors, count, context.seed, tries=_TRIES)
        self._centers = model.cluster_centers_.astype(np.float32)
        sizes = np.bincount(self.predict(vectors, texts), minlength=count)
        order = np.argsort(-sizes, kind="stable")
        self._centers = self._centers[order[sizes[order] > 0]]
        return self.predict(vectors, texts)

    def predict(self, vectors: NDArray[np.float32], texts: Sequence[str]) -> NDArray[np.int64]:
        """The nearest centre of each vector."""
        assert self._centers is not None, "fit or load the partitioner first"
        distances = (self._centers**2).sum(axis=1) - 2 * vectors @ self._centers.T
        labels: NDArray[np.int64] = distances.argmin(axis=1).astype(np.int64)
        return labels

    def save(self, folder: Path) -> None:
        """Write the centres."""
        assert self._centers is not None, "fit the partitioner first"
        save_file({"centers": self._centers}, folder / "kmeans.safetensors")

    @classmethod
    def load(cls, folder: Path, options: KMeansOptions) -> Self:
        """Restore the centres."""
        partitioner = cls(options)
        partitioner._centers = load_file(folder / "kmeans.safetensors")["centers"]
        return partitioner

    def _find_count(self, vectors: NDArray[np.float32], seed: int) -> int:
        """The count with the best prediction strength times a small power of the count."""
        generator = np.random.default_rng(seed)
        sample = vectors
        if len(vectors) > self.options.sample:
            chosen = generator.choice(len(vectors), self.options.sample, replace=False)
            sample = vectors[np.sort(chosen)]
        # Both halves of a split must hold as many different prompts as there are clusters.
        most = min(self.options.max_clusters, _count_different(sample) // 4)
        fewest = max(self.options.min_clusters, 2)
        if most < fewest:
            return int(min(self.options.min_clusters, max(_count_different(sample), 1)))
        strengths = {
            count: self._prediction_strength(sample, count, seed)
            for count in range(fewest, most + 1)
        }
        if self.options.min_clusters == 1 and max(strengths.values()) < _STRENGTH_OF_ONE_TASK:
            return 1
        return max(strengths, key=lambda count: float(strengths[count] * count**_FINENESS))

    def _prediction_strength(self, vectors: NDArray[np.float32], count: int, seed: int) -> float:
        """How well clusters learnt on one half foretell those of the other, 0 to 1.

        For each cluster of the other half: the share of its pairs of prompts that the first
        half's centres also put together; the worst cluster counts. Mean over random splits.
        """
        generator = np.random.default_rng(seed)
        strengths = []
        for split in range(_SPLITS):
            order = generator.permutation(len(vectors))
            first, second = np.array_split(vectors[order], 2)
            learnt = self._cluster(first, count, seed + split, tries=_TRIES).predict(second)
            own = self._cluster(second, count, seed + split, tries=_TRIES).labels_
            strengths.append(min(_shared_pairs(learnt[own == each]) for each in range(count)))
        return float(np.mean(strengths))

    def _cluster(self, vectors: NDArray[np.float32], count: int, seed: int, tries: int) -> Any:
        from sklearn.cluster import KMeans, MiniBatchKMeans

        kind = MiniBatchKMeans if len(vectors) > self.options.mini_batch_above else KMeans
        return kind(n_clusters=count, n_init=tries, random_state=seed).fit(vectors)


def _shared_pairs(labels: NDArray[Any]) -> float:
    """The share of pairs with equal labels; a single prompt agrees with itself."""
    if len(labels) < 2:
        return float(len(labels))
    sizes = np.bincount(labels)
    return float((sizes * (sizes - 1)).sum() / (len(labels) * (len(labels) - 1)))


def _count_different(vectors: NDArray[np.float32]) -> int:
    return len(np.unique(vectors, axis=0)) if len(vectors) else 0
