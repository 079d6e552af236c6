"""Acme's partitioner for TaskSpec."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from taskspec.errors import CorpusError
from taskspec.hookspecs import hookimpl
from taskspec.interfaces import PartitionContext, Partitioner, option

_FILE = "tree.safetensors"


@dataclass(frozen=True)
class TreeOptions:
    """Options of `acme-tree`."""

    tasks: int = option(3, "Branches that the tree of prompts is cut into.")


class Tree(Partitioner):
    """Ward's agglomerative clustering; new prompts go to the nearest mean."""

    name = "acme-tree"
    Options = TreeOptions

    def __init__(self, options: TreeOptions | None = None) -> None:
        super().__init__(options)
        self._means: NDArray[np.float32] | None = None

    def fit(
        self, vectors: NDArray[np.float32], texts: Sequence[str], context: PartitionContext
    ) -> NDArray[np.int64]:
        """Labels int64 [N]."""
        from sklearn.cluster import AgglomerativeClustering

        if len(np.unique(vectors, axis=0)) < self.options.tasks:
            raise CorpusError(
                f"acme-tree: fewer different prompts than tasks ({self.options.tasks}); "
                "add prompts or lower partition.options.tasks"
            )
        model: Any = AgglomerativeClustering(self.options.tasks)
        found = model.fit_predict(vectors)
        self._means = np.stack(
            [vectors[found == label].mean(axis=0) for label in range(self.options.tasks)]
        )
        labels: NDArray[np.int64] = found.astype(np.int64)
        return labels

    def predict(self, vectors: NDArray[np.float32], texts: Sequence[str]) -> NDArray[np.int64]:
        """The nearest mean of each prompt, int64 [N]."""
        assert self._means is not None
        distances = ((vectors[:, None] - self._means) ** 2).sum(axis=-1)
        nearest: NDArray[np.int64] = distances.argmin(axis=1).astype(np.int64)
        return nearest

    def save(self, folder: Path) -> None:
        """Write the means."""
        assert self._means is not None
        save_file({"means": self._means}, folder / _FILE)

    @classmethod
    def load(cls, folder: Path, options: TreeOptions) -> Self:
        """Read the means."""
        partitioner = cls(options)
        partitioner._means = load_file(folder / _FILE)["means"]
        return partitioner


@hookimpl
def taskspec_partitioners() -> Iterable[type[Partitioner]]:
    """Offer the partitioner."""
    return (Tree,)
