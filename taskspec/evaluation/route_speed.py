"""Routing by predicted seconds: which way is fastest for a prompt, and when to abstain."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

AS_FAST = 0.98
"""Costs are measured with noise: a way that takes this share of another's time is no faster."""


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
