"""Routing by the nearest mean."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from scipy.special import softmax

from taskspec.interfaces import Router, option

_FILE = "means.safetensors"


@dataclass(frozen=True)
class MyPluginOptions:
    """Options of `my-plugin`."""

    sharpness: float = option(10.0, "Larger values make the nearest task more probable.")

    def __post_init__(self) -> None:
        if not self.sharpness > 0:
            raise ValueError("sharpness must be positive")


class MyPlugin(Router):
    """The task whose prompts' mean vector is nearest."""

    name = "my-plugin"
    Options = MyPluginOptions

    def __init__(self, options: MyPluginOptions | None = None) -> None:
        super().__init__(options)
        self._means: NDArray[np.float32] | None = None

    def fit(self, vectors: NDArray[np.float32], labels: NDArray[np.int64], seed: int) -> None:
        """Average the vectors of each task; a task without prompts is infinitely far."""
        means = np.full((int(labels.max()) + 1, vectors.shape[1]), np.inf, dtype=np.float32)
        for label in np.unique(labels):
            means[label] = vectors[labels == label].mean(axis=0)
        self._means = means

    def predict_proba(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Task probabilities float32 [B, C]."""
        assert self._means is not None, "fit or load the router first"
        distances = ((vectors[:, None] - self._means) ** 2).sum(axis=-1)
        return np.asarray(softmax(-self.options.sharpness * distances, axis=1), dtype=np.float32)

    def save(self, folder: Path) -> None:
        """Write the means."""
        assert self._means is not None, "fit the router first"
        save_file({"means": self._means}, folder / _FILE)

    @classmethod
    def load(cls, folder: Path, options: MyPluginOptions) -> Self:
        """Read the means."""
        router = cls(options)
        router._means = load_file(folder / _FILE)["means"]
        return router
