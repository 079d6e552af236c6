"""From prompt x method timings to rows of the benchmark table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

import numpy as np

from taskspec.corpus.examples import ALL_TASKS
from taskspec.decoding.records import StepRecord
from taskspec.evaluation.metrics import acceptance_rate, block_efficiency
from taskspec.evaluation.statistics import Speeds, speedup_interval
from taskspec.evaluation.table import ResultRow


@dataclass(frozen=True)
class Timing:
    """One prompt decoded once by one method.

    Attributes:
        prompt: The prompt's id.
        method: The method.
        repeat: Which repeat, from 0.
        seconds: Wall clock, routing and prefills included.
        tokens: Tokens of the answer.
        steps: Verification passes.
        draft_length: Draft length in use; 0 for plain decoding, None where drafts are mixed.
        looping: Whether the answer ends in a loop, which flatters lookup.
        first: Seconds until the first token, with whatever comes before it.
    """

    prompt: str
    method: str
    repeat: int
    seconds: float
    tokens: int
    steps: tuple[StepRecord, ...]
    draft_length: int | None
    looping: bool = False
    first: float = 0.0


class Matrix:
    """All timings of an evaluation.

    Methods may have been timed in different repeats; what is compared is compared on the repeats
    that both have.

    Args:
        timings: Every prompt by every method, at least in the first repeat.
        tasks: Task of each prompt, for rows per task and stratification.
        resamples: Bootstrap resamples.
    """

    def __init__(self, timings: Sequence[Timing], tasks: Mapping[str, str], resamples: int) -> None:
        self.tasks, self.resamples = dict(tasks), resamples
        self._cells: dict[tuple[str, str], list[Timing]] = {}
        for timing in timings:
            self._cells.setdefault((timing.method, timing.prompt), []).append(timing)

    def cell(self, method: str, prompt: str) -> list[Timing]:
        """All repeats of one prompt by one method."""
        return self._cells[method, prompt]

    def seconds(self, method: str, prompt: str, beside: str | None = None) -> float:
        """Median seconds over repeats, or over those that another method was timed in too."""
        shared = {timing.repeat for timing in self.cell(beside or method, prompt)}
        return median(t.seconds for t in self.cell(method, prompt) if t.repeat in shared)

    def tokens(self, method: str, prompt: str) -> int:
        """Tokens of the answer, the same in every repeat."""
        return self.cell(method, prompt)[0].tokens

    def speed(self, method: str, prompts: Sequence[str], beside: str | None = None) -> float:
        """Pooled tokens per second."""
        total = sum(self.tokens(method, prompt) for prompt in prompts)
        return total / sum(self.seconds(method, prompt, beside) for prompt in prompts)

    def groups(self) -> dict[str, list[str]]:
        """Prompts of every task, and of all together."""
        groups = {task: [p for p, t in self.tasks.items() if t == task] for task in self._names()}
        return {**groups, ALL_TASKS: list(self.tasks)}

    def rows(
        self, method: str, accuracy: Mapping[str, float | None], baseline: str = "plain"
    ) -> list[ResultRow]:
        """One row per task and one over all.

        Args:
            method: The method.
            accuracy: Draft accuracy per task name and `all`.
            baseline: The method of speed-up 1.
        """
        return [
            self._row(method, name, prompts, accuracy.get(name), baseline)
            for name, prompts in self.groups().items()
        ]

    def _row(
        self,
        method: str,
        task: str,
        prompts: Sequence[str],
        accuracy: float | None,
        baseline: str,
    ) -> ResultRow:
        speeds = self._speeds(method, prompts)
        interval = speedup_interval(
            speeds,
            self._speeds(baseline, prompts, method),
            [self.tasks[prompt] for prompt in prompts],
            self.resamples,
        )
        first = [self.cell(method, prompt)[0] for prompt in prompts]
        steps = [step for timing in first for step in timing.steps]
        lengths = {timing.draft_length for timing in first}
        return ResultRow(
            method=method,
            task=task,
            tokens_per_second=self.speed(method, prompts),
            speedup=interval.value,
            speedup_low=interval.low,
            speedup_high=interval.high,
            block_efficiency=block_efficiency(steps),
            acceptance_rate=acceptance_rate(steps),
            draft_accuracy=accuracy,
            draft_length=lengths.pop() if len(lengths) == 1 else None,
            prompts=len(prompts),
            tokens=int(speeds.tokens.sum()),
        )

    def best_single(self, pool: Sequence[str]) -> str:
        """The one member that is fastest overall, by the first repeat."""

        def seconds_per_token(method: str) -> float:
            first = [self.cell(method, prompt)[0] for prompt in self.tasks]
            return sum(each.seconds for each in first) / sum(each.tokens for each in first)

        return min(pool, key=seconds_per_token)

    def random(self, pool: Sequence[str], name: str) -> list[Timing]:
        """Timings of a router that draws uniformly from the pool: mean seconds, first repeat.

        Where answers are sampled they differ in length: the mean is that for as many tokens as
        the pool's first member wrote.
        """
        timings = []
        for prompt in self.tasks:
            first = [self.cell(method, prompt)[0] for method in pool]
            tokens = first[0].tokens
            seconds = sum(each.seconds for each in first) / sum(each.tokens for each in first)
            steps = tuple(step for each in first for step in each.steps)
            timings.append(Timing(prompt, name, 0, seconds * tokens, tokens, steps, None))
        return timings

    def oracle(self, candidates: Mapping[str, Sequence[str]], name: str) -> list[Timing]:
        """Timings of a router that knows: chosen on the first repeat, scored on later ones.

        Args:
            candidates: What may be chosen, by prompt.
            name: Method name of the result.

        With a single repeat it is scored on the one it was chosen on, which flatters it.
        """
        timings = []
        for prompt in self.tasks:
            chosen = self.cell(self.fastest(candidates[prompt], prompt), prompt)
            timings += [replace(timing, method=name) for timing in chosen[1:] or chosen]
        return timings

    def fastest(self, pool: Sequence[str], prompt: str) -> str:
        """The member that was fastest for a prompt in the first repeat."""

        def seconds_per_token(method: str) -> float:
            first = self.cell(method, prompt)[0]
            return first.seconds / first.tokens

        return min(pool, key=seconds_per_token)

    def _names(self) -> list[str]:
        return list(dict.fromkeys(self.tasks.values()))

    def _speeds(self, method: str, prompts: Sequence[str], beside: str | None = None) -> Speeds:
        return Speeds(
            np.array([self.tokens(method, prompt) for prompt in prompts], dtype=np.float64),
            np.array([self.seconds(method, prompt, beside) for prompt in prompts]),
        )
