"""Nearest neighbours among the training prompts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from scipy.special import softmax

from taskspec.interfaces import Router, option
from taskspec_routers.calibration import inverse_temperature

_FILE = "knn.safetensors"
_DOUBT = 0.5
"""Votes shared by all tasks beforehand, so that a single near neighbour decides nothing."""


@dataclass(frozen=True)
class KNNOptions:
    """Options of `knn`."""

    neighbours: int = option(10, "Training prompts that vote, each by its cosine similarity.")

    def __post_init__(self) -> None:
        if self.neighbours < 1:
            raise ValueError("neighbours must be at least 1")


class KNN(Router):
    """The tasks of the most similar training prompts; nothing is learnt but a temperature.

    It needs no training when prompts are added, and it keeps them all: 4 bytes per dimension.
    """

    name = "knn"
    Options = KNNOptions

    def __init__(self, options: KNNOptions | None = None) -> None:
        super().__init__(options)
        self._state: dict[str, NDArray[Any]] | None = None
        self._search: Any = None

    def fit(self, vectors: NDArray[np.float32], labels: NDArray[np.int64], seed: int) -> None:
        """Keep the prompts; calibrate on each one's vote without itself."""
        self._keep(
            {
                "vectors": np.array(vectors, dtype=np.float32),
                "labels": np.array(labels, dtype=np.int64),
                "scale": np.ones(1, dtype=np.float32),
            }
        )
        if len(labels) > 1:
            assert self._state is not None
            # Left out, a prompt of a task with no other prompt can only be guessed wrong.
            counts = np.bincount(labels)
            shared = counts[labels] > 1
            scale = inverse_temperature(self._scores(None)[shared], labels[shared])
            self._state["scale"][:] = scale

    def predict_proba(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Task probabilities float32 [B, C]."""
        assert self._state is not None, "fit or load the router first"
        scores = self._scores(vectors) * self._state["scale"]
        return np.asarray(softmax(scores, axis=1), dtype=np.float32)

    def save(self, folder: Path) -> None:
        """Write the training prompts' vectors and labels."""
        assert self._state is not None, "fit the router first"
        save_file(self._state, folder / _FILE)

    @classmethod
    def load(cls, folder: Path, options: KNNOptions) -> Self:
        """Restore the vectors and labels."""
        router = cls(options)
        router._keep(load_file(folder / _FILE))
        return router

    def _keep(self, state: dict[str, NDArray[Any]]) -> None:
        from sklearn.neighbors import NearestNeighbors

        self._state = state
        search: Any = NearestNeighbors(metric="cosine", algorithm="brute")
        self._search = search.fit(state["vectors"])

    def _scores(self, vectors: NDArray[np.float32] | None) -> NDArray[np.float64]:
        """Log shares of the votes, [B, C]; of the training prompts, each left out, for None."""
        assert self._state is not None
        labels = self._state["labels"]
        others = len(labels) - (vectors is None)
        count = min(self.options.neighbours, others)
        distances, places = self._search.kneighbors(vectors, n_neighbors=count)
        votes = np.full((len(places), int(labels.max()) + 1), 1e-9)
        rows = np.arange(len(places))
        for neighbour in range(count):
            near = np.maximum(1 - distances[:, neighbour], 0)
            votes[rows, labels[places[:, neighbour]]] += near
        present = np.bincount(labels, minlength=votes.shape[1]) > 0
        votes[:, present] += _DOUBT / present.sum()
        shares: NDArray[np.float64] = np.log(votes / votes.sum(axis=1, keepdims=True))
        return shares
