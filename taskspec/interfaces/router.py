"""The router contract: prompts to task probabilities."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from taskspec.interfaces.plugin import Plugin

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Router(Plugin, ABC):
    """Predicts the task of a prompt. It sees prompts only, never answers.

    Attributes:
        reads_text: Whether it reads the prompts themselves; the recipe's encoder is then left
            out. Otherwise it reads the encoder's vectors.
    """

    reads_text: ClassVar[bool] = False

    @abstractmethod
    def fit(self, inputs: Any, labels: NDArray[np.int64], seed: int) -> None:
        """Learn from N labelled prompts.

        Args:
            inputs: float32 vectors [N, D]; with `reads_text`, a list of N texts.
            labels: int64 [N] in 0..C-1; a single class is allowed.
            seed: Source of all randomness.
        """

    @abstractmethod
    def predict_proba(self, inputs: Any) -> NDArray[np.float32]:
        """Calibrated task probabilities float32 [B, C]; rows sum to one, column c is label c."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write the state into an existing, empty folder; never pickle."""

    @classmethod
    @abstractmethod
    def load(cls, folder: Path, options: Any) -> Self:
        """Restore what `save` wrote; `predict_proba` gives equal output."""
