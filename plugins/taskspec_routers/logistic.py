"""Multinomial logistic regression."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from scipy.special import softmax

from taskspec.interfaces import Router, option
from taskspec_routers.calibration import Scores, held_out_scores, inverse_temperature


@dataclass(frozen=True)
class LogisticOptions:
    """Options of `logistic`."""

    strength: float = option(10.0, "Inverse of the regularisation; larger fits closer.")

    def __post_init__(self) -> None:
        if self.strength <= 0:
            raise ValueError("strength must be positive")


class Logistic(Router):
    """Logistic regression on prompt vectors; probabilities calibrated by temperature.

    The temperature is fitted on cross-validated predictions (Guo et al. 2017, arXiv 1706.04599).
    """

    name = "logistic"
    Options = LogisticOptions

    def __init__(self, options: LogisticOptions | None = None) -> None:
        super().__init__(options)
        self._weights: NDArray[np.float32] | None = None
        self._bias: NDArray[np.float32] | None = None

    def fit(self, vectors: NDArray[np.float32], labels: NDArray[np.int64], seed: int) -> None:
        """Fit weights, then the temperature on folds left out."""
        count = int(labels.max()) + 1
        weights, bias = self._fit(vectors, labels, count, seed)

        def fold(kept: NDArray[np.bool_]) -> Callable[[NDArray[np.bool_]], Scores]:
            own, offset = self._fit(vectors[kept], labels[kept], count, seed)
            return lambda held: vectors[held] @ own.T + offset

        scale = inverse_temperature(*held_out_scores(labels, seed, fold))
        self._weights = (weights * scale).astype(np.float32)
        self._bias = (bias * scale).astype(np.float32)

    def predict_proba(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Task probabilities float32 [B, C]."""
        assert self._weights is not None and self._bias is not None, "fit or load the router first"
        probabilities: NDArray[np.float32] = softmax(vectors @ self._weights.T + self._bias, axis=1)
        return probabilities

    def save(self, folder: Path) -> None:
        """Write weights and bias."""
        assert self._weights is not None and self._bias is not None, "fit the router first"
        tensors = {"weights": self._weights, "bias": self._bias}
        save_file(tensors, folder / "logistic.safetensors")

    @classmethod
    def load(cls, folder: Path, options: LogisticOptions) -> Self:
        """Restore weights and bias."""
        router = cls(options)
        tensors = load_file(folder / "logistic.safetensors")
        router._weights, router._bias = tensors["weights"], tensors["bias"]
        return router

    def _fit(
        self, vectors: NDArray[np.float32], labels: NDArray[np.int64], count: int, seed: int
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Weights [C, D] and bias [C]; classes without an example get a bias of -30."""
        from sklearn.linear_model import LogisticRegression

        weights, bias = np.zeros((count, vectors.shape[1])), np.full(count, -30.0)
        present = np.unique(labels)
        if len(present) == 1:
            bias[present] = 0.0
            return weights, bias
        model: Any = LogisticRegression(C=self.options.strength, max_iter=1000, random_state=seed)
        model.fit(vectors, labels)
        if len(present) == 2:
            weights[present[1]], bias[present] = model.coef_[0], (0.0, model.intercept_[0])
        else:
            weights[present], bias[present] = model.coef_, model.intercept_
        return weights, bias
