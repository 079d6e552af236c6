"""Routing by predicted seconds: which way is fastest for a prompt, and when to abstain."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

AS_FAST = 0.98
"""Costs are measured with noise: a way that takes this share of another's time is no faster."""


def without_chance(
    seconds: NDArray[np.float64], halves: NDArray[np.float64], tasks: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Seconds of single prompts, drawn to their task's mean as far as chance spreads them.

    An answer is a few dozen steps, so what it shows of a draft is part chance. Two halves of its
    steps differ by chance alone: what a task's prompts spread beyond that is their own (empirical
    Bayes, Efron and Morris 1975, DOI 10.1080/01621459.1975.10479864).

    Args:
        seconds: float64 [N, W], per token, of N prompts by W ways.
        halves: float64 [2, N, W], the same by each half of the steps.
        tasks: int64 [N], each prompt's task.

    Returns:
        float64 [N, W].
    """
    drawn = seconds.copy()
    for task in np.unique(tasks):
        own = tasks == task
        chance = ((halves[0, own] - halves[1, own]) ** 2).mean(axis=0) / 4
        spread = seconds[own].var(axis=0)
        # Prompts that do not spread are at their mean, whatever share of that is real.
        real = np.clip(1 - chance / np.where(spread > 0, spread, np.inf), 0, 1)
        mean = seconds[own].mean(axis=0)
        drawn[own] = mean + real * (seconds[own] - mean)
    return drawn


def task_means(
    seconds: NDArray[np.float64], tasks: NDArray[np.int64], wanted: NDArray[np.int64]
) -> NDArray[np.float64]:
    """What is known of prompts that were not measured: the mean of their task's that were.

    Args:
        seconds: float64 [N, W], of N prompts by W ways.
        tasks: int64 [N], each prompt's task.
        wanted: int64 [M], tasks of other prompts, all of them among the N.

    Returns:
        float64 [M, W].
    """
    known, places = np.unique(tasks, return_inverse=True)
    means = np.stack([seconds[places == place].mean(axis=0) for place in range(len(known))])
    return means[np.searchsorted(known, wanted)]


def fastest_ways(seconds: NDArray[np.float64], own: NDArray[np.int64]) -> NDArray[np.int64]:
    """The fastest way of each prompt; where none is clearly faster, its own.

    Args:
        seconds: float64 [N, W], of N prompts by W ways.
        own: int64 [N], the way of each prompt's task.

    Returns:
        int64 [N].
    """
    fastest = seconds.argmin(axis=1)
    least = np.take_along_axis(seconds, fastest[:, None], axis=1)[:, 0]
    usual = np.take_along_axis(seconds, own[:, None], axis=1)[:, 0]
    return np.where(least < AS_FAST * usual, fastest, own)


def routed_seconds(
    probabilities: NDArray[np.float64],
    chosen: NDArray[np.float64],
    fallback: NDArray[np.float64],
    threshold: float,
) -> NDArray[np.float64]:
    """Seconds of each prompt where a router abstains below a threshold, float64 [N].

    Args:
        probabilities: float64 [N], of the router's likeliest class.
        chosen: float64 [N], seconds in that class's way.
        fallback: float64 [N], seconds in the fallback's.
        threshold: At 1 the router always abstains.
    """
    return np.where((probabilities >= threshold) & (threshold < 1), chosen, fallback)


def best_threshold(
    probabilities: NDArray[np.float64],
    chosen: NDArray[np.float64],
    fallback: NDArray[np.float64],
) -> float:
    """The threshold at which prompts take least time together; of several, the highest.

    Tried are 0 (never abstain), 1 (always), and the midpoints between the probabilities, so on
    these prompts the result is slower neither than the fallback alone nor than never abstaining.

    Args:
        probabilities: As for `routed_seconds`, and so the rest.
        chosen: float64 [N].
        fallback: float64 [N].
    """
    known = np.unique(probabilities)
    candidates: list[float] = [0.0, *((known[:-1] + known[1:]) / 2).tolist(), 1.0]

    def total(threshold: float) -> float:
        return float(routed_seconds(probabilities, chosen, fallback, threshold).sum())

    totals = [total(each) for each in candidates]
    # Sums that differ by rounding only are equal.
    most = min(totals) * (1 + 1e-9)
    return max(each for each, time in zip(candidates, totals, strict=True) if time <= most)


def regret(seconds: NDArray[np.float64], oracle: NDArray[np.float64]) -> float:
    """1 - S / S_oracle on the same prompts, whose answers have the same tokens.

    Args:
        seconds: float64 [N], as routed.
        oracle: float64 [N], of the fastest way of each prompt.
    """
    total = float(seconds.sum())
    return 1 - float(oracle.sum()) / total if total else 0.0
