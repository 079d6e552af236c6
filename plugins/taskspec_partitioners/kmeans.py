"""k-means, with the number of tasks found from the prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.metrics import adjusted_rand_score, silhouette_score

from taskspec.errors import CorpusError
from taskspec.interfaces import PartitionContext, Partitioner, option

_AUTO = "auto"
_MINI_BATCH_ABOVE = 20_000
_SILHOUETTE_SAMPLE = 4_000
_STABILITY_RUNS = 4


@dataclass(frozen=True)
class KMeansOptions:
    """Options of `kmeans`."""

    clusters: Any = option(_AUTO, "Number of tasks, or `auto` to find it from the prompts.")
    max_clusters: int = option(10, "Most tasks that `auto` considers.")

    def __post_init__(self) -> None:
        count = self.clusters
        if count != _AUTO and (isinstance(count, bool) or not isinstance(count, int) or count < 1):
            raise ValueError(f"clusters must be 'auto' or at least 1, not {count!r}")
        if self.max_clusters < 2:
            raise ValueError("max_clusters must be at least 2")


class KMeansPartitioner(Partitioner):
    """k-means on the encoder's vectors, as in TaskSpec (arXiv 2505.08600, section on partitioning).

    `auto` takes the number of clusters with the best product of silhouette and stability, the
    agreement (adjusted Rand index) of clusterings of random halves of the prompts.
    """

    name = "kmeans"
    Options = KMeansOptions

    def __init__(self, options: KMeansOptions | None = None) -> None:
        super().__init__(options)
        self._centers: NDArray[np.float32] | None = None

    def fit(
        self, vectors: NDArray[np.float32], texts: Sequence[str], context: PartitionContext
    ) -> NDArray[np.int64]:
        """Cluster the vectors; labels int64 [N] are 0..C-1, the largest task first."""
        wanted = self.options.clusters
        count = self._find_count(vectors, context.seed) if wanted == _AUTO else int(wanted)
        if len(vectors) < count:
            raise CorpusError(
                f"kmeans: {len(vectors)} prompts cannot make {count} tasks; add prompts or lower "
                "partition.options.clusters"
            )
        model = _cluster(vectors, count, context.seed)
        sizes = np.bincount(model.labels_, minlength=count)
        used = np.flatnonzero(sizes)
        order = used[np.argsort(-sizes[used], kind="stable")]
        self._centers = model.cluster_centers_[order].astype(np.float32)
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
        """The number of clusters with the best silhouette times stability."""
        most = min(self.options.max_clusters, len(np.unique(vectors, axis=0)) - 1)
        if most < 2:
            return 1
        generator = np.random.default_rng(seed)
        sample = vectors
        if len(vectors) > _SILHOUETTE_SAMPLE:
            sample = vectors[generator.choice(len(vectors), _SILHOUETTE_SAMPLE, replace=False)]
        scores = {}
        for count in range(2, most + 1):
            labels = _cluster(sample, count, seed).labels_
            separation = float(silhouette_score(sample, labels, metric="cosine"))
            scores[count] = separation * _stability(sample, count, seed)
        return max(scores, key=lambda count: scores[count])


def _cluster(vectors: NDArray[np.float32], count: int, seed: int, tries: int = 10) -> Any:
    kind = MiniBatchKMeans if len(vectors) > _MINI_BATCH_ABOVE else KMeans
    return kind(n_clusters=count, n_init=tries, random_state=seed).fit(vectors)


def _stability(vectors: NDArray[np.float32], count: int, seed: int) -> float:
    """Mean agreement on all vectors of clusterings learnt on random halves."""
    generator = np.random.default_rng(seed)
    labelings = []
    for run in range(_STABILITY_RUNS):
        half = generator.permutation(len(vectors))[: max(count, len(vectors) // 2)]
        labelings.append(_cluster(vectors[half], count, seed + run, tries=3).predict(vectors))
    pairs = combinations(labelings, 2)
    return float(np.mean([adjusted_rand_score(a, b) for a, b in pairs]))
