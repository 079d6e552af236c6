"""The router beside the truth, prompt by prompt."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

_BINS = 10


@dataclass(frozen=True)
class RoutedPrompt:
    """Where one prompt went.

    Attributes:
        prompt: Its id.
        task: Where it belongs: its known task, or the one that the partition put it in; None
            when nobody knows.
        routed: Name of the task found that it was sent to; None when the router abstained.
        right: Whether that is where it belongs; None when nobody knows, or the router abstained.
        probability: What the router gave the likeliest task.
    """

    prompt: str
    task: str | None
    routed: str | None
    right: bool | None
    probability: float


@dataclass(frozen=True)
class Confusion:
    """How many prompts of each task were sent where.

    Attributes:
        tasks: Where prompts belong.
        routes: Where they were sent; None is the fallback.
        counts: One row per task, one column per route.
    """

    tasks: tuple[str, ...]
    routes: tuple[str | None, ...]
    counts: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class CalibrationBin:
    """Prompts that the router was about as sure of.

    Attributes:
        probability: Its mean probability for the task it chose.
        right: Share of them sent where they belong.
        prompts: How many they are.
    """

    probability: float
    right: float
    prompts: int


def to_json(prompts: Sequence[RoutedPrompt]) -> str:
    """Routed prompts as JSON, one a line."""
    return "".join(json.dumps(asdict(each)) + "\n" for each in prompts)


def from_json(text: str) -> list[RoutedPrompt]:
    """Read what `to_json` wrote."""
    return [RoutedPrompt(**json.loads(line)) for line in text.splitlines()]


def confusion(prompts: Sequence[RoutedPrompt], found: Sequence[str]) -> Confusion | None:
    """Count prompts whose task is known; None when there are none.

    Args:
        prompts: Routed prompts.
        found: Names of the tasks found, in the order of the columns.
    """
    known = [each for each in prompts if each.task is not None]
    if not known:
        return None
    tasks = tuple(dict.fromkeys(each.task for each in known if each.task is not None))
    abstained = any(each.routed is None for each in known)
    routes: tuple[str | None, ...] = (*found, None) if abstained else tuple(found)
    pairs = [(each.task, each.routed) for each in known]
    counts = tuple(tuple(pairs.count((task, route)) for route in routes) for task in tasks)
    return Confusion(tasks, routes, counts)


def calibration(prompts: Sequence[RoutedPrompt]) -> tuple[CalibrationBin, ...]:
    """Tenths of probability that hold prompts the router decided, and whose task is known."""
    bins: dict[int, list[RoutedPrompt]] = {}
    for each in prompts:
        if each.right is not None:
            bins.setdefault(min(_BINS - 1, int(each.probability * _BINS)), []).append(each)
    return tuple(
        CalibrationBin(
            sum(each.probability for each in own) / len(own),
            sum(bool(each.right) for each in own) / len(own),
            len(own),
        )
        for _, own in sorted(bins.items())
    )


def calibration_error(bins: Sequence[CalibrationBin]) -> float | None:
    """Mean distance of probability and share, weighted by prompts; None without any."""
    total = sum(each.prompts for each in bins)
    gaps = sum(abs(each.probability - each.right) * each.prompts for each in bins)
    return gaps / total if total else None
