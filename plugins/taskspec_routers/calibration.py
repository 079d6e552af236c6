"""Probabilities that mean what they say: temperature scaling on prompts not learnt from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

_MOST_FOLDS = 5

Scores = NDArray[np.floating[Any]]


def inverse_temperature(scores: Scores, labels: NDArray[np.int64]) -> float:
    """The factor on scores that makes held-out labels likeliest.

    Temperature scaling (Guo et al. 2017, arXiv 1706.04599). As in Platt's own scaling, a label
    counts a little less than wholly true, or prompts all guessed right would ask for certainty.

    Args:
        scores: float [N, C], logits of prompts that they were not fitted on.
        labels: int64 [N].

    Returns:
        The factor, between 0.02 and 20; 1 when there is nothing to choose by.
    """
    count, classes = scores.shape
    if classes == 1 or not count:
        return 1.0
    doubt = 1 / (count + 2)
    weights = np.full(scores.shape, doubt / (classes - 1))
    weights[np.arange(count), labels] = 1 - doubt

    def loss(log_factor: float) -> float:
        return -float((weights * log_softmax(scores * np.exp(log_factor), axis=1)).sum() / count)

    return float(np.exp(minimize_scalar(loss, bounds=(-4.0, 3.0), method="bounded").x))


def held_out_scores(
    labels: NDArray[np.int64],
    seed: int,
    fit: Callable[[NDArray[np.bool_]], Callable[[NDArray[np.bool_]], Scores]],
    folds: int = _MOST_FOLDS,
) -> tuple[Scores, NDArray[np.int64]]:
    """Score prompts by models that were not fitted on them.

    Args:
        labels: int64 [N] in 0..C-1.
        seed: Source of the folds.
        fit: From a mask of prompts to learn from to what scores a mask of others, [n, C].
        folds: Parts that the prompts are dealt into; only the first is scored if 1.

    Returns:
        Scores [n, C] and the labels of the prompts scored.
    """
    parts = np.random.default_rng(seed).permutation(len(labels)) % min(_MOST_FOLDS, len(labels))
    scores: list[Scores] = [np.zeros((0, int(labels.max()) + 1))]
    scored: list[NDArray[np.int64]] = [labels[:0]]
    for part in np.unique(parts)[:folds]:
        held = parts == part
        if not held.all():
            scores.append(fit(~held)(held))
            scored.append(labels[held])
    return np.concatenate(scores), np.concatenate(scored)
