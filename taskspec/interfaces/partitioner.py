"""The partitioner contract: vectors to tasks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from taskspec.interfaces.plugin import Plugin

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from taskspec.interfaces.target import Target


@dataclass(frozen=True)
class PartitionContext:
    """What a partitioner may use besides vectors.

    Attributes:
        seed: Source of all its randomness.
        target: The target model, for partitioners that ask it.
    """

    seed: int
    target: Target | None = None


class Partitioner(Plugin, ABC):
    """Groups prompts into tasks.

    Attributes:
        task_names: One name per label once fitted, by partitioners that name tasks; empty for
            others, whose tasks are then named by their key terms.
    """

    task_names: tuple[str, ...] = ()

    @abstractmethod
    def fit(
        self, vectors: NDArray[np.float32], texts: Sequence[str], context: PartitionContext
    ) -> NDArray[np.int64]:
        """Find the tasks of N training texts.

        Args:
            vectors: float32 [N, D], one row a text.
            texts: The N texts themselves.
            context: Seed and target.

        Returns:
            int64 labels [N]: 0..C-1 contiguous, -1 for noise.

        Raises:
            CorpusError: When N is too small for the number of tasks asked for.
        """

    @abstractmethod
    def predict(self, vectors: NDArray[np.float32], texts: Sequence[str]) -> NDArray[np.int64]:
        """Label new texts (held-out prompts, drift): int64 [N], -1 for noise."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write the state into an existing, empty folder; never pickle."""

    @classmethod
    @abstractmethod
    def load(cls, folder: Path, options: Any) -> Self:
        """Restore what `save` wrote; `predict` gives equal output."""
