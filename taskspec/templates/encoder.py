"""Encoding prompts by hashed words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from taskspec.interfaces import Encoder, option


@dataclass(frozen=True)
class MyPluginOptions:
    """Options of `my-plugin`."""

    dimensions: int = option(1024, "Width of the vectors; words share one by chance.")

    def __post_init__(self) -> None:
        if self.dimensions < 1:
            raise ValueError("dimensions must be at least 1")


class MyPlugin(Encoder):
    """Counts words by their hash; nothing is learnt, so nothing is stored."""

    name = "my-plugin"
    Options = MyPluginOptions

    def fit(self, texts: Sequence[str]) -> None:
        """Nothing to learn."""

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors float32 [N, dimensions]; a text without words is a row of zeros."""
        from sklearn.feature_extraction.text import HashingVectorizer

        if not texts:
            return np.zeros((0, self.options.dimensions), dtype=np.float32)
        hashing: Any = HashingVectorizer(n_features=self.options.dimensions, norm="l2")
        vectors: NDArray[np.float32] = hashing.transform(texts).toarray().astype(np.float32)
        return vectors

    def save(self, folder: Path) -> None:
        """Nothing to store."""

    @classmethod
    def load(cls, folder: Path, options: MyPluginOptions) -> Self:
        """Nothing is stored."""
        return cls(options)
