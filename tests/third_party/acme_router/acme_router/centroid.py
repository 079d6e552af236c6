"""Routing by the nearest centroid."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from taskspec.interfaces import Router, option

_FILE = "centroids.safetensors"


@dataclass(frozen=True)
class CentroidOptions:
    """Options of `acme-centroid`."""

    sharpness: float = option(10.0, "Larger values make the nearest task more probable.")

    def __post_init__(self) -> None:
        if self.sharpness <= 0:
            raise ValueError("sharpness must be positive")


class Centroid(Router):
    """Softmax over the negative squared distances to the tasks' mean vectors."""

    name = "acme-centroid"
    Options = CentroidOptions

    def fit(self, vectors: NDArray[np.float32], labels: NDArray[np.int64], seed: int) -> None:
        """Average the vectors of each task; one without prompts is infinitely far."""
        self._centroids = np.full((labels.max() + 1, vectors.shape[1]), np.inf, dtype=np.float32)
        for label in set(labels.tolist()):
            self._centroids[label] = vectors[labels == label].mean(axis=0)

    def predict_proba(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Probabilities [B, C]."""
        distances = ((vectors[:, None] - self._centroids) ** 2).sum(axis=-1)
        scores = -self.options.sharpness * distances
        weights = np.exp(scores - scores.max(axis=1, keepdims=True))
        probabilities: NDArray[np.float32] = weights / weights.sum(axis=1, keepdims=True)
        return probabilities

    def save(self, folder: Path) -> None:
        """Write the centroids."""
        save_file({"centroids": self._centroids}, folder / _FILE)

    @classmethod
    def load(cls, folder: Path, options: Any) -> Self:
        """Read the centroids."""
        router = cls(options)
        router._centroids = load_file(folder / _FILE)["centroids"]
        return router
