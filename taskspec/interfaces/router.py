"""The router contract: prompt vectors to task probabilities."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from taskspec.interfaces.plugin import Plugin

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Router(Plugin, ABC):
    """Predicts the task of a prompt. It sees prompts only, never answers."""

    @abstractmethod
    def fit(self, vectors: NDArray[np.float32], labels: NDArray[np.int64], seed: int) -> None:
        """Learn from N labelled prompts.

        Args:
            vectors: float32 [N, D].
            labels: int64 [N] in 0..C-1; a single class is allowed.
            seed: Source of all randomness.
        """

    @abstractmethod
    def predict_proba(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Task probabilities float32 [B, C]; rows sum to one, column c is label c."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write the state into an existing, empty folder; never pickle."""

    @classmethod
    @abstractmethod
    def load(cls, folder: Path, options: Any) -> Self:
        """Restore what `save` wrote; `predict_proba` gives equal output."""
