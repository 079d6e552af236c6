"""Choosing a task's draft among those that were timed: objective, doubt, and memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from taskspec.evaluation.statistics import Interval, Speeds, speedup_interval
from taskspec.recipe.assignment import AssignConfig

_MEGABYTES_THAT_COUNT = 1.0


@dataclass(frozen=True)
class TimedDraft:
    """A draft that was timed beside plain decoding on a task's validation prompts.

    Attributes:
        name: The draft's.
        memory: Megabytes as stored that the task adds by using it: those of a draft that serves
            all tasks are divided among them.
        speeds: Prompt by prompt.
    """

    name: str
    memory: float
    speeds: Speeds


class Comparison:
    """Compares drafts on the same prompts, under a recipe's objective.

    Args:
        plain: Plain decoding of the prompts, in the same order.
        config: Objective, margin and resamples.
    """

    def __init__(self, plain: Speeds, config: AssignConfig) -> None:
        self.plain, self.config = plain, config

    def speedup(self, method: Speeds, beside: Speeds | None = None) -> Interval:
        """Speed-up with its 95 % interval, paired by prompt.

        Tokens per second over all prompts; with `latency` the mean time per answer, each answer
        in units of plain decoding's, so that short ones count as much as long ones.

        Args:
            method: What is compared.
            beside: With what; None for plain decoding.
        """
        other = self.plain if beside is None else beside
        if self.config.objective == "latency":
            method, other = self._per_answer(method), self._per_answer(other)
        tasks = ["" for _ in method.tokens]
        return speedup_interval(method, other, tasks, self.config.resamples)

    def _per_answer(self, speeds: Speeds) -> Speeds:
        share: NDArray[np.float64] = (speeds.seconds / speeds.tokens) / (
            self.plain.seconds / self.plain.tokens
        )
        return Speeds(np.ones_like(share), share)

    def best(self, drafts: Sequence[TimedDraft]) -> TimedDraft | None:
        """The draft that the objective prefers; None for plain decoding.

        Only drafts whose interval lies at or above the margin are eligible: plain decoding is the
        cheapest there is, and wins where it may be as fast. Of these, the fastest is compared
        with each that takes less memory, by a megabyte and more, and the cheapest one wins that is
        not distinguishably slower. The intervals are of the ratio of both, paired by prompt: two
        that each have a wide interval over plain decoding may still differ clearly. With `memory`
        it is enough to keep the share of the fastest's speed that the recipe names.
        """
        eligible = [d for d in drafts if self.speedup(d.speeds).low >= self.config.margin]
        if not eligible:
            return None
        fastest = max(eligible, key=lambda draft: self.speedup(draft.speeds).value)
        smaller = (d for d in eligible if d.memory <= fastest.memory - _MEGABYTES_THAT_COUNT)
        cheaper = [draft for draft in smaller if self._suffices(draft, fastest)]
        return min(cheaper, key=lambda draft: draft.memory, default=fastest)

    def _suffices(self, draft: TimedDraft, fastest: TimedDraft) -> bool:
        ratio = self.speedup(draft.speeds, fastest.speeds)
        if self.config.objective == "memory" and ratio.value >= self.config.memory_share:
            return True
        return ratio.high >= 1


def within_memory(
    comparisons: Sequence[Comparison],
    drafts: Sequence[Sequence[TimedDraft]],
    parts: Mapping[str, Mapping[str, float]],
    fallback: str | None,
    most: float | None,
) -> tuple[list[TimedDraft | None], str | None]:
    """Every task's draft, all of them together within a limit.

    While they are too large, the draft is given up whose loss costs least speed; the fallback's
    share in that is nothing, so it goes first where nothing else uses it.

    Args:
        comparisons: One per task.
        drafts: The drafts timed for each task.
        parts: Megabytes as stored of what each draft loads, by its name and by folder; what
            several drafts load counts once.
        fallback: The draft of the fallback; None for plain decoding.
        most: Megabytes; None for no limit.

    Returns:
        One draft per task, None for plain decoding, and the fallback's.
    """
    given_up: set[str] = set()

    def choose(without: set[str]) -> tuple[list[TimedDraft | None], float, set[str]]:
        """The choice, the time it takes relative to plain decoding, and what it needs."""
        chosen, time = [], 0.0
        for comparison, timed in zip(comparisons, drafts, strict=True):
            best = comparison.best([each for each in timed if each.name not in without])
            chosen.append(best)
            time += 1.0 if best is None else 1 / comparison.speedup(best.speeds).value
        needed = {each.name for each in chosen if each is not None}
        if fallback is not None and fallback not in without:
            needed.add(fallback)
        return chosen, time, needed

    def size(names: set[str]) -> float:
        return sum({k: v for name in names for k, v in parts[name].items()}.values())

    chosen, _, needed = choose(given_up)
    while most is not None and size(needed) > most:
        given_up.add(min(sorted(needed), key=lambda name: choose(given_up | {name})[1]))
        chosen, _, needed = choose(given_up)
    return chosen, None if fallback in given_up else fallback
