"""Naming tasks by the words that set them apart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def key_terms(texts: Sequence[str], labels: NDArray[np.int64], per_task: int = 2) -> list[str]:
    """A name per task: its words with the highest class-based TF-IDF, joined by dashes.

    Args:
        texts: N texts.
        labels: int64 [N], 0..C-1; -1 is left out.
        per_task: Words per name.

    Returns:
        C distinct names.
    """
    from sklearn.feature_extraction.text import CountVectorizer

    count = int(labels.max()) + 1
    vectorizer = CountVectorizer(stop_words="english", token_pattern=r"[a-z]{3,}", binary=True)
    try:
        counts = vectorizer.fit_transform(texts)
    except ValueError:
        return [f"task-{label}" for label in range(count)]
    words = vectorizer.get_feature_names_out()
    shares = np.stack(
        [np.asarray(counts[labels == label].mean(axis=0)).ravel() for label in range(count)]
    )
    scores = shares * np.log(1 + 1 / np.maximum(shares.sum(axis=0, keepdims=True), 1e-9))
    names: list[str] = []
    for label in range(count):
        best = [words[i] for i in np.argsort(-scores[label], kind="stable")[:per_task]]
        name = "-".join(best) or f"task-{label}"
        names.append(name if name not in names else f"{name}-{label}")
    return names
