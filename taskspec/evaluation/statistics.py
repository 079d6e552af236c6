"""Speed-ups with honest intervals."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % interval, which is 0 to infinity where nothing bounds it."""

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
        tasks: Task of each prompt; resampling is stratified by it. Tasks of one prompt, which say
            nothing of their spread, are drawn from together.
        resamples: Number of resamples (metrics.md: 10,000).
        seed: Seed of the resampling.

    Returns:
        Ratio of sum tokens / sum seconds, with the 2.5 and 97.5 percentiles; of one prompt alone,
        nothing is known but the ratio.
    """
    generator = np.random.default_rng(seed)
    values = np.stack([method.tokens, method.seconds, plain.tokens, plain.seconds])
    ratio = float(_ratio(values.sum(axis=1)))
    if len(tasks) == 1 and not np.array_equal(method.seconds, plain.seconds):
        return Interval(ratio, 0.0, math.inf)
    totals = np.zeros((4, resamples))
    strata = _strata(tasks)
    for stratum in range(max(strata) + 1):
        own = values[:, strata == stratum]
        drawn = generator.integers(own.shape[1], size=(resamples, own.shape[1]))
        totals += own[:, drawn].sum(axis=2)
    low, high = np.percentile(_ratio(totals), [2.5, 97.5])
    return Interval(ratio, float(low), float(high))


def _strata(tasks: Sequence[str]) -> NDArray[np.int64]:
    """The stratum of each prompt: its task, but that tasks of one prompt share one.

    A single such task shares that of the smallest other one.
    """
    sizes = sorted((count, task) for task, count in Counter(tasks).items())
    lone = sum(count == 1 for count, _ in sizes)
    shared = 2 if lone == 1 else lone
    numbers = {task: max(0, i - shared + 1) for i, (_, task) in enumerate(sizes)}
    return np.array([numbers[task] for task in tasks])


def _ratio(totals: NDArray[np.float64]) -> NDArray[np.float64]:
    ratio: NDArray[np.float64] = (totals[0] / totals[1]) / (totals[2] / totals[3])
    return ratio
