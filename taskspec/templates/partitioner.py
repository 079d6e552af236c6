"""Finding tasks with MiniBatchKMeans."""

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

_FILE = "centers.safetensors"


@dataclass(frozen=True)
class MyPluginOptions:
    """Options of `my-plugin`."""

    tasks: int = option(3, "Number of tasks to find.")

    def __post_init__(self) -> None:
        if self.tasks < 1:
            raise ValueError("tasks must be at least 1")


class MyPlugin(Partitioner):
    """A fixed number of tasks, each the prompts nearest to a centre."""

    name = "my-plugin"
    Options = MyPluginOptions

    def __init__(self, options: MyPluginOptions | None = None) -> None:
        super().__init__(options)
        self._centers: NDArray[np.float32] | None = None

    def fit(
        self, vectors: NDArray[np.float32], texts: Sequence[str], context: PartitionContext
    ) -> NDArray[np.int64]:
        """Labels int64 [N], the largest task first.

        Raises:
            CorpusError: When there are fewer different prompts than tasks.
        """
        from sklearn.cluster import MiniBatchKMeans

        distinct = len(np.unique(vectors, axis=0))
        if distinct < self.options.tasks:
            raise CorpusError(
                f"my-plugin: {distinct} different prompts cannot be {self.options.tasks} tasks; "
                "add prompts or lower partition.options.tasks"
            )
        model: Any = MiniBatchKMeans(self.options.tasks, n_init=10, random_state=context.seed)
        found = model.fit_predict(vectors)
        order = np.argsort(-np.bincount(found, minlength=self.options.tasks), kind="stable")
        self._centers = model.cluster_centers_[order].astype(np.float32)
        labels = self.predict(vectors, texts)
        kept, labels = np.unique(labels, return_inverse=True)
        self._centers = self._centers[kept]
        return labels.astype(np.int64)

    def predict(self, vectors: NDArray[np.float32], texts: Sequence[str]) -> NDArray[np.int64]:
        """The nearest centre of each prompt, int64 [N]."""
        assert self._centers is not None, "fit or load the partitioner first"
        distances = ((vectors[:, None] - self._centers) ** 2).sum(axis=-1)
        nearest: NDArray[np.int64] = distances.argmin(axis=1).astype(np.int64)
        return nearest

    def save(self, folder: Path) -> None:
        """Write the centres."""
        assert self._centers is not None, "fit the partitioner first"
        save_file({"centers": self._centers}, folder / _FILE)

    @classmethod
    def load(cls, folder: Path, options: MyPluginOptions) -> Self:
        """Read the centres."""
        partitioner = cls(options)
        partitioner._centers = load_file(folder / _FILE)["centers"]
        return partitioner
