"""Acme's encoder for TaskSpec."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from taskspec.hookspecs import hookimpl
from taskspec.interfaces import Encoder, option


@dataclass(frozen=True)
class LettersOptions:
    """Options of `acme-letters`."""

    length: int = option(3, "Letters of a run.")
    dimensions: int = option(512, "Width of the vectors.")


class Letters(Encoder):
    """Hashed runs of letters within words, for languages without spaces between words too."""

    name = "acme-letters"
    Options = LettersOptions

    def fit(self, texts: Sequence[str]) -> None:
        """Nothing to learn."""

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors float32 [N, dimensions]."""
        from sklearn.feature_extraction.text import HashingVectorizer

        if not texts:
            return np.zeros((0, self.options.dimensions), dtype=np.float32)
        hashing: Any = HashingVectorizer(
            analyzer="char_wb",
            ngram_range=(self.options.length, self.options.length),
            n_features=self.options.dimensions,
        )
        vectors: NDArray[np.float32] = hashing.transform(texts).toarray().astype(np.float32)
        return vectors

    def save(self, folder: Path) -> None:
        """Nothing to store."""

    @classmethod
    def load(cls, folder: Path, options: LettersOptions) -> Self:
        """Nothing is stored."""
        return cls(options)


@hookimpl
def taskspec_encoders() -> Iterable[type[Encoder]]:
    """Offer the encoder."""
    return (Letters,)
