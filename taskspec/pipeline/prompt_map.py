"""All prompts on a plane, those that are alike near one another."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_SEED = 0
_INNER = 50
"""Dimensions that are left before neighbours are sought."""
_PERPLEXITY = 30.0


def lay_out(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """Places of N prompts, by t-SNE of their cosine distances with a fixed seed.

    Args:
        vectors: float32 [N, D].

    Returns:
        float64 [N, 2], each coordinate from 0 to 1. Axes and distances between groups mean nothing.
    """
    from sklearn.decomposition import TruncatedSVD
    from sklearn.manifold import TSNE

    count = len(vectors)
    if count < 4:
        spread = np.linspace(0, 1, max(count, 1))[:count]
        return np.stack([spread, np.full(count, 0.5)], axis=1)
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    if min(unit.shape) > _INNER:
        unit = TruncatedSVD(_INNER, random_state=_SEED).fit_transform(unit)
    perplexity = min(_PERPLEXITY, (count - 1) / 3)
    start = "pca" if min(unit.shape) >= 2 else "random"
    plane = TSNE(perplexity=perplexity, init=start, random_state=_SEED).fit_transform(unit)
    low, high = plane.min(axis=0), plane.max(axis=0)
    placed: NDArray[np.float64] = (plane - low) / np.maximum(high - low, 1e-9)
    return placed
