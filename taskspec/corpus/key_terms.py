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

    count = int(labels.max(initial=-1)) + 1
    if not count:
        return []
    vectorizer = CountVectorizer(stop_words="english", token_pattern=r"[a-z]{3,}", binary=True)
    try:
        counts = vectorizer.fit_transform(texts)
    except ValueError:
        return [f"task-{label}" for label in range(count)]
    words = vectorizer.get_feature_names_out()
    sizes = np.array([max(1, int((labels == label).sum())) for label in range(count)])
    sums = [np.asarray(counts[labels == label].sum(axis=0)).ravel() for label in range(count)]
    shares = np.stack(sums) / sizes[:, None]
    scores = shares * np.log(1 + 1 / np.maximum(shares.sum(axis=0, keepdims=True), 1e-9))
    names: list[str] = []
    for label in range(count):
        order = np.argsort(-scores[label], kind="stable")[:per_task]
        best = [words[i] for i in order if scores[label, i] > 0]
        name = "-".join(best) or f"task-{label}"
        names.append(name if name not in names else f"{name}-{label}")
    return names
