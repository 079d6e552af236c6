"""The encoder contract: texts to vectors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from taskspec.interfaces.plugin import Plugin

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Encoder(Plugin, ABC):
    """Turns texts into vectors, for partitioning and, while serving, for routing."""

    @abstractmethod
    def fit(self, texts: Sequence[str]) -> None:
        """Learn from the training texts; encoders that need no fitting do nothing."""

    @abstractmethod
    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Encode N texts.

        Returns:
            float32 array [N, D]; rows have unit L2 norm unless a text has no known feature,
            then the row is zero.
        """

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write the state into an existing, empty folder; never pickle."""

    @classmethod
    @abstractmethod
    def load(cls, folder: Path, options: Any) -> Self:
        """Restore what `save` wrote; `encode` gives equal output."""
