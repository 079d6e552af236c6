"""Words weighted by rarity, projected to a few dimensions."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from taskspec.errors import CorpusError
from taskspec.interfaces import Encoder, option

_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_WORDS = re.compile(r"\w+")
_WORDS_AND_PUNCTUATION = re.compile(r"\w+|[^\w\s]")
_STOP_WORDS = ("none", "english")


@dataclass(frozen=True)
class TfidfOptions:
    """Options of `tfidf`."""

    dimensions: int = option(16, "Dimensions kept by the SVD; fewer when the corpus is small.")
    max_ngram: int = option(2, "Longest run of words that counts as a term.")
    min_documents: int = option(2, "Terms in fewer texts are left out.")
    min_share: float = option(0.01, "Terms in a smaller share of the texts are left out.")
    max_share: float = option(1.0, "Terms in a larger share of the texts are left out.")
    punctuation: bool = option(True, "Count punctuation marks as words.")
    merge_numbers: bool = option(True, "Read every number as the same word.")
    stop_words: str = option("none", "Words to leave out: `none` or `english`.")

    def __post_init__(self) -> None:
        if self.dimensions < 1 or self.max_ngram < 1 or self.min_documents < 1:
            raise ValueError("dimensions, max_ngram and min_documents must be at least 1")
        if not 0 <= self.min_share < self.max_share <= 1:
            raise ValueError("shares must be in order: 0 <= min_share < max_share <= 1")
        if self.stop_words not in _STOP_WORDS:
            raise ValueError(f"stop_words must be none or english, not {self.stop_words!r}")


class Tfidf(Encoder):
    """TF-IDF over words, punctuation and their pairs, truncated SVD, rows of unit length.

    Latent semantic analysis (Deerwester et al. 1990); needs no model and takes well under a
    millisecond for a prompt of usual length. What a text is about is told by rare words, what is
    to be done with it by common ones: so terms in few texts are left out, stop words,
    punctuation and the presence of numbers stay, and few dimensions are kept.
    """

    name = "tfidf"
    Options = TfidfOptions

    def __init__(self, options: TfidfOptions | None = None) -> None:
        super().__init__(options)
        self._places: dict[str, int] = {}
        self._projection: NDArray[np.float32] | None = None
        self._left_out: frozenset[str] = _stop_words(self.options.stop_words)

    def fit(self, texts: Sequence[str]) -> None:
        """Learn vocabulary, weights and projection.

        Raises:
            CorpusError: When the texts hold no words.
        """
        from sklearn.decomposition import TruncatedSVD

        vectorizer, weights = self._weigh(texts)
        dimensions = min(self.options.dimensions, min(weights.shape) - 1)
        if dimensions < 1:
            # A single text or term spans one dimension, where the SVD has none to give.
            components = np.asarray(weights.mean(axis=0)).reshape(1, -1)
        else:
            # The explained variance, which nobody asks for, divides by zero with two texts.
            with np.errstate(invalid="ignore", divide="ignore"):
                components = TruncatedSVD(dimensions, random_state=0).fit(weights).components_
        terms = vectorizer.get_feature_names_out()
        self._places = {str(term): place for place, term in enumerate(terms)}
        projection = (components * vectorizer.idf_).T
        self._projection = np.ascontiguousarray(projection, dtype=np.float32)

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors float32 [N, D]; zero for a text without a known term."""
        assert self._projection is not None, "fit or load the encoder first"
        vectors = np.zeros((len(texts), self._projection.shape[1]), dtype=np.float32)
        for row, text in enumerate(texts):
            counts = Counter(term for term in self._terms(text) if term in self._places)
            if not counts:
                continue
            places = [self._places[term] for term in counts]
            frequencies = 1 + np.log(np.fromiter(counts.values(), np.float32, len(counts)))
            vector = frequencies @ self._projection[places]
            length = float(np.linalg.norm(vector))
            if length > 0:
                vectors[row] = vector / length
        return vectors

    def save(self, folder: Path) -> None:
        """Write the terms as JSON, weights times projection as safetensors."""
        assert self._projection is not None, "fit the encoder first"
        (folder / "terms.json").write_text(json.dumps(list(self._places)), encoding="utf-8")
        save_file({"projection": self._projection}, folder / "tfidf.safetensors")

    @classmethod
    def load(cls, folder: Path, options: TfidfOptions) -> Self:
        """Restore without fitting."""
        encoder = cls(options)
        terms = json.loads((folder / "terms.json").read_text(encoding="utf-8"))
        encoder._places = {term: place for place, term in enumerate(terms)}
        encoder._projection = load_file(folder / "tfidf.safetensors")["projection"]
        return encoder

    def _weigh(self, texts: Sequence[str]) -> tuple[Any, Any]:
        """The fitted vectorizer and the TF-IDF weights, sparse [N, terms]."""
        from sklearn.feature_extraction.text import TfidfVectorizer

        fewest = max(self.options.min_documents, math.ceil(self.options.min_share * len(texts)))
        # In a corpus too small or too uniform for the limits, every term counts.
        for min_df, max_df in ((min(fewest, len(texts)), self.options.max_share), (1, 1.0)):
            vectorizer = TfidfVectorizer(
                analyzer=self._terms, min_df=min_df, max_df=max_df, sublinear_tf=True
            )
            try:
                return vectorizer, vectorizer.fit_transform(texts)
            except ValueError as error:
                reason = error
        raise CorpusError(
            f"tfidf found no words in the {len(texts)} prompts ({reason}); add prompts with text"
        )

    def _terms(self, text: str) -> list[str]:
        """Words and runs of up to `max_ngram` words."""
        text = text.lower()
        if self.options.merge_numbers:
            text = _NUMBER.sub("0", text)
        pattern = _WORDS_AND_PUNCTUATION if self.options.punctuation else _WORDS
        words = pattern.findall(text)
        if self._left_out:
            words = [word for word in words if word not in self._left_out]
        terms = list(words)
        for length in range(2, self.options.max_ngram + 1):
            terms += map(" ".join, zip(*(words[start:] for start in range(length)), strict=False))
        return terms


def _stop_words(choice: str) -> frozenset[str]:
    if choice == "none":
        return frozenset()
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    return frozenset(ENGLISH_STOP_WORDS)
