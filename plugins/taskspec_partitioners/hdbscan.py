"""HDBSCAN: tasks are where prompts lie dense, and what lies between is noise."""

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
_SMALLEST = 5
_FILE = "hdbscan.safetensors"
_METHODS = ("eom", "leaf")
_ROUNDING = 1e-5
"""A vector encoded again may differ by this much; shorter ones have no direction."""


@dataclass(frozen=True)
class HdbscanOptions:
    """Options of `hdbscan`."""

    min_cluster_size: Any = option(
        _AUTO, "Fewest prompts of a task, or `auto` for `min_share` of the prompts."
    )
    min_share: float = option(0.08, "Smallest share of the prompts that `auto` calls a task.")
    min_samples: int = option(
        10, "Neighbours that make a place dense; more call more prompts noise."
    )
    dimensions: int = option(5, "Principal components kept before clustering; 0 keeps all.")
    selection: str = option("eom", "`eom` for the most lasting groups, `leaf` for the finest ones.")
    allow_one_task: bool = option(
        False, "Let all prompts be one task; otherwise there are two or more, or an error."
    )

    def __post_init__(self) -> None:
        size = self.min_cluster_size
        if size != _AUTO and (isinstance(size, bool) or not isinstance(size, int) or size < 2):
            raise ValueError(f"min_cluster_size must be 'auto' or at least 2, not {size!r}")
        if not 0 < self.min_share <= 0.5:
            raise ValueError("min_share must be above 0 and at most 0.5")
        if self.min_samples < 1:
            raise ValueError("min_samples must be at least 1")
        if self.dimensions < 0:
            raise ValueError("dimensions must be at least 1, or 0 to keep all")
        if self.selection not in _METHODS:
            raise ValueError(f"selection must be eom or leaf, not {self.selection!r}")


class HdbscanPartitioner(Partitioner):
    """HDBSCAN (Campello et al. 2013) on a few principal components of the encoder's vectors.

    It finds the number of tasks by itself and calls prompts that belong nowhere noise (-1).
    Density means little in many dimensions, so the vectors are first projected and brought back
    to unit length, where Euclidean distance orders as cosine does.

    `predict` follows HDBSCAN's own rule without its clusterer, which only pickle could store: a
    new prompt joins the task of the training prompt nearest by mutual reachability, unless that
    one is noise or farther away than any member of the task was when it joined; then it is noise.
    """

    name = "hdbscan"
    Options = HdbscanOptions

    def __init__(self, options: HdbscanOptions | None = None) -> None:
        super().__init__(options)
        self._state: dict[str, NDArray[Any]] | None = None

    def fit(
        self, vectors: NDArray[np.float32], texts: Sequence[str], context: PartitionContext
    ) -> NDArray[np.int64]:
        """Find dense groups; labels int64 [N] are 0..C-1, the largest task first, -1 for noise.

        Nothing is random, so the seed is not used.

        Raises:
            CorpusError: With too few prompts for two tasks, or when no group stands apart.
        """
        size = self._smallest_task(len(vectors))
        mean, components = _principal_axes(vectors, self.options.dimensions)
        points = _project(vectors, mean, components)
        found, strengths, core = self._cluster(points, size)
        labels = _largest_first(found)
        if not (labels >= 0).any():
            raise CorpusError(
                f"hdbscan: no group of {size} of the {len(vectors)} prompts stands apart; lower "
                "min_cluster_size or min_samples in partition.options, set allow_one_task: true, "
                "or use kmeans"
            )
        # The strength (lambda) of a point is one over the distance at which it left its task.
        radii = [
            1 / max(strengths[labels == each].min(), 1e-12) for each in range(labels.max() + 1)
        ]
        self._state = {
            "mean": mean,
            "components": components,
            "points": points,
            "core": core.astype(np.float32),
            "labels": labels,
            "radii": np.array(radii, dtype=np.float32),
        }
        return labels

    def predict(self, vectors: NDArray[np.float32], texts: Sequence[str]) -> NDArray[np.int64]:
        """The task whose members are near enough, else -1."""
        from sklearn.neighbors import KDTree

        assert self._state is not None, "fit or load the partitioner first"
        state = self._state
        if not len(vectors):
            return np.empty(0, dtype=np.int64)
        points = _project(vectors, state["mean"], state["components"])
        dense = min(self.options.min_samples, len(state["points"]))
        looked_at = min(2 * dense, len(state["points"]))
        distances, neighbours = KDTree(state["points"]).query(points, k=looked_at)
        own_core = distances[:, dense - 1 : dense]
        reach = np.maximum(np.maximum(distances, own_core), state["core"][neighbours])  # [N, k]
        best = reach.argmin(axis=1)[:, None]
        labels = state["labels"][np.take_along_axis(neighbours, best, axis=1)[:, 0]]
        near = np.take_along_axis(reach, best, axis=1)[:, 0]
        too_far = near > state["radii"][labels] * (1 + _ROUNDING) + _ROUNDING
        found: NDArray[np.int64] = np.where((labels < 0) | too_far, -1, labels).astype(np.int64)
        return found

    def save(self, folder: Path) -> None:
        """Write projection, projected training prompts, their labels and the tasks' radii."""
        assert self._state is not None, "fit the partitioner first"
        save_file(self._state, folder / _FILE)

    @classmethod
    def load(cls, folder: Path, options: HdbscanOptions) -> Self:
        """Restore without fitting."""
        partitioner = cls(options)
        partitioner._state = load_file(folder / _FILE)
        return partitioner

    def _smallest_task(self, prompts: int) -> int:
        size = self.options.min_cluster_size
        if size == _AUTO:
            size = max(_SMALLEST, round(self.options.min_share * prompts))
        tasks = 1 if self.options.allow_one_task else 2
        needed = max(tasks * size, self.options.min_samples + 1)
        if prompts < needed:
            raise CorpusError(
                f"hdbscan: {prompts} prompts are too few, {needed} are needed for tasks of at "
                f"least {size}; add prompts, or lower min_cluster_size and min_samples in "
                "partition.options"
            )
        return int(size)

    def _cluster(
        self, points: NDArray[np.float32], size: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
        """Labels [N], lambdas [N] (one over the distance of leaving) and core distances [N]."""
        from hdbscan import HDBSCAN
        from sklearn.neighbors import KDTree

        model = HDBSCAN(
            min_cluster_size=size,
            min_samples=self.options.min_samples,
            cluster_selection_method=self.options.selection,
            allow_single_cluster=self.options.allow_one_task,
            approx_min_span_tree=False,
            core_dist_n_jobs=1,
        ).fit(points.astype(np.float64))
        tree = model.condensed_tree_.to_numpy()
        leaves = tree[tree["child"] < len(points)]
        strengths = np.empty(len(points))
        strengths[leaves["child"]] = leaves["lambda_val"]
        near, _ = KDTree(points).query(points, k=self.options.min_samples + 1)
        return model.labels_.astype(np.int64), strengths, near[:, -1]


def _principal_axes(
    vectors: NDArray[np.float32], dimensions: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean [D] and the axes of largest variance [d, D]; without projection the identity."""
    width = vectors.shape[1]
    if not 0 < dimensions < width:
        return np.zeros(width, np.float32), np.eye(width, dtype=np.float32)
    mean = vectors.mean(axis=0, dtype=np.float64)
    centred = vectors - mean
    _, axes = np.linalg.eigh(centred.T @ centred)  # ascending
    return mean.astype(np.float32), np.ascontiguousarray(axes[:, ::-1].T[:dimensions], np.float32)


def _project(
    vectors: NDArray[np.float32], mean: NDArray[np.float32], components: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Coordinates float32 [N, d] of unit length; zero for what lies at the mean."""
    points = (vectors - mean) @ components.T
    lengths = np.linalg.norm(points, axis=1, keepdims=True)
    return np.where(lengths > _ROUNDING, points / np.maximum(lengths, _ROUNDING), 0).astype(
        np.float32
    )


def _largest_first(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """The same groups, numbered by size; ties by their first prompt."""
    names, first, sizes = np.unique(labels[labels >= 0], return_index=True, return_counts=True)
    renamed = np.full(len(labels), -1, dtype=np.int64)
    for rank, place in enumerate(np.lexsort((first, -sizes))):
        renamed[labels == names[place]] = rank
    return renamed
