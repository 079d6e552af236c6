"""Words weighted by rarity, projected to a few dimensions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import normalize

from taskspec.errors import CorpusError
from taskspec.interfaces import Encoder, option


@dataclass(frozen=True)
class TfidfOptions:
    """Options of `tfidf`."""

    dimensions: int = option(64, "Dimensions kept by the SVD; fewer when the corpus is small.")
    max_ngram: int = option(2, "Longest run of words that counts as a term.")
    min_documents: int = option(2, "Terms in fewer texts are left out.")
    max_share: float = option(0.5, "Terms in a larger share of the texts are left out.")

    def __post_init__(self) -> None:
        if self.dimensions < 1 or self.max_ngram < 1 or self.min_documents < 1:
            raise ValueError("dimensions, max_ngram and min_documents must be at least 1")
        if not 0 < self.max_share <= 1:
            raise ValueError("max_share must be above 0 and at most 1")


class Tfidf(Encoder):
    """TF-IDF over words and word pairs, truncated SVD, rows of unit length.

    Latent semantic analysis (Deerwester et al. 1990); needs no model and takes microseconds.
    """

    name = "tfidf"
    Options = TfidfOptions

    def __init__(self, options: TfidfOptions | None = None) -> None:
        super().__init__(options)
        self._vectorizer: Any = None
        self._components: NDArray[np.float32] | None = None

    def fit(self, texts: Sequence[str]) -> None:
        """Learn vocabulary, weights and projection.

        Raises:
            CorpusError: When the texts hold no words.
        """
        self._vectorizer = self._new_vectorizer(min(self.options.min_documents, len(texts)))
        try:
            weights = self._vectorizer.fit_transform(texts)
        except ValueError:
            self._vectorizer = self._new_vectorizer(1, max_share=1.0)
            try:
                weights = self._vectorizer.fit_transform(texts)
            except ValueError as error:
                raise CorpusError(f"tfidf found no words in the prompts ({error})") from None
        most = min(weights.shape) - 1
        if most < 1:
            self._components = np.eye(weights.shape[1], dtype=np.float32)
            return
        svd = TruncatedSVD(min(self.options.dimensions, most), random_state=0)
        svd.fit(weights)
        self._components = svd.components_.astype(np.float32)

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors float32 [N, D]; zero for a text without a known term."""
        assert self._components is not None, "fit or load the encoder first"
        vectors = self._vectorizer.transform(texts) @ self._components.T
        unit: NDArray[np.float32] = normalize(vectors).astype(np.float32)
        return unit

    def save(self, folder: Path) -> None:
        """Write terms as JSON, weights and projection as safetensors."""
        assert self._components is not None, "fit the encoder first"
        terms = {term: int(place) for term, place in self._vectorizer.vocabulary_.items()}
        (folder / "terms.json").write_text(json.dumps(terms), encoding="utf-8")
        idf = self._vectorizer.idf_.astype(np.float64)
        save_file({"components": self._components, "idf": idf}, folder / "tfidf.safetensors")

    @classmethod
    def load(cls, folder: Path, options: TfidfOptions) -> Self:
        """Restore without fitting."""
        encoder = cls(options)
        terms = json.loads((folder / "terms.json").read_text(encoding="utf-8"))
        tensors = load_file(folder / "tfidf.safetensors")
        encoder._vectorizer = encoder._new_vectorizer(1, vocabulary=terms)
        encoder._vectorizer.idf_ = tensors["idf"]
        encoder._components = tensors["components"]
        return encoder

    def _new_vectorizer(
        self, min_documents: int, max_share: float | None = None, vocabulary: Any = None
    ) -> Any:
        return TfidfVectorizer(
            ngram_range=(1, self.options.max_ngram),
            min_df=min_documents,
            max_df=self.options.max_share if max_share is None else max_share,
            sublinear_tf=True,
            vocabulary=vocabulary,
        )
