"""Speed-ups with honest intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Speeds:
    """One method on N prompts.

    Attributes:
        tokens: float64 [N], tokens of each answer.
        seconds: float64 [N], median over repeats.
    """

    tokens: NDArray[np.float64]
    seconds: NDArray[np.float64]


def speedup_interval(
    method: Speeds, plain: Speeds, tasks: Sequence[str], resamples: int, seed: int = 0
) -> Interval:
    """Ratio of pooled tokens per second, with a paired bootstrap over prompts.

    Args:
        method: The method, prompt by prompt.
        plain: Plain decoding of the same prompts, in the same order.
        tasks: Task of each prompt; resampling is stratified by it.
        resamples: Number of resamples (metrics.md: 10,000).
        seed: Seed of the resampling.

    Returns:
        Ratio of sum tokens / sum seconds, with the 2.5 and 97.5 percentiles.
    """
    generator = np.random.default_rng(seed)
    values = np.stack([method.tokens, method.seconds, plain.tokens, plain.seconds])
    totals = np.zeros((4, resamples))
    names = np.asarray(tasks)
    for task in sorted(set(tasks)):
        own = values[:, names == task]
        drawn = generator.integers(own.shape[1], size=(resamples, own.shape[1]))
        totals += own[:, drawn].sum(axis=2)
    low, high = np.percentile(_ratio(totals), [2.5, 97.5])
    return Interval(float(_ratio(values.sum(axis=1))), float(low), float(high))


def _ratio(totals: NDArray[np.float64]) -> NDArray[np.float64]:
    ratio: NDArray[np.float64] = (totals[0] / totals[1]) / (totals[2] / totals[3])
    return ratio
