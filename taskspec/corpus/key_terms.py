"""Naming tasks by the words that set them apart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def key_terms(texts: Sequence[str], labels: NDArray[np.int64], per_task: int = 2) -> list[str]:
    """A name per task: its first key terms, joined by dashes.

    Args:
        texts: N texts.
        labels: int64 [N], 0..C-1; -1 is left out.
        per_task: Words per name.

    Returns:
        C distinct names.
    """
    names: list[str] = []
    for label, words in enumerate(task_terms(texts, labels, per_task)):
        name = "-".join(words) or f"task-{label}"
        names.append(name if name not in names else f"{name}-{label}")
    return names


def task_terms(
    texts: Sequence[str], labels: NDArray[np.int64], per_task: int
) -> list[tuple[str, ...]]:
    """Each task's words with the highest class-based TF-IDF.

    Args:
        texts: N texts.
        labels: int64 [N], 0..C-1; -1 is left out.
        per_task: Most words of a task.

    Returns:
        C times the words, best first; none where no text has a word.
    """
    from sklearn.feature_extraction.text import CountVectorizer

    count = int(labels.max(initial=-1)) + 1
    if not count:
        return []
    vectorizer = CountVectorizer(stop_words="english", token_pattern=r"[a-z]{3,}", binary=True)
    try:
        counts = vectorizer.fit_transform(texts)
    except ValueError:
        return [()] * count
    words = vectorizer.get_feature_names_out()
    sizes = np.array([max(1, int((labels == label).sum())) for label in range(count)])
    sums = [np.asarray(counts[labels == label].sum(axis=0)).ravel() for label in range(count)]
    shares = np.stack(sums) / sizes[:, None]
    scores = shares * np.log(1 + 1 / np.maximum(shares.sum(axis=0, keepdims=True), 1e-9))
    orders = (np.argsort(-own, kind="stable")[:per_task] for own in scores)
    return [
        tuple(str(words[i]) for i in order if own[i] > 0)
        for own, order in zip(scores, orders, strict=True)
    ]
