"""Speed-ups and their intervals."""

from __future__ import annotations

import math

import numpy as np
import pytest

from taskspec.evaluation.statistics import Interval, Speeds, speedup_interval


def speeds(tokens: list[float], seconds: list[float]) -> Speeds:
    return Speeds(np.array(tokens, dtype=np.float64), np.array(seconds, dtype=np.float64))


def noisy(seed: int, ratio: float = 2.0, prompts: int = 40) -> Interval:
    """The interval of one experiment in which the method is `ratio` times as fast on average."""
    generator = np.random.default_rng(seed)
    tokens = generator.integers(20, 200, prompts).astype(np.float64)
    plain = tokens * generator.uniform(0.8, 1.2, prompts)
    method = plain / ratio * generator.uniform(0.5, 1.5, prompts)
    return speedup_interval(
        Speeds(tokens, method), Speeds(tokens, plain), ["code", "math"] * (prompts // 2), 300, seed
    )


def test_the_value_is_the_ratio_of_pooled_speeds() -> None:
    method = speeds([10, 90], [1, 3])
    plain = speeds([10, 90], [2, 8])
    assert speedup_interval(method, plain, ["a", "a"], 100).value == pytest.approx(25 / 10)


def test_a_constant_ratio_has_no_width() -> None:
    plain = speeds([10, 90, 40], [2, 8, 5])
    method = speeds([10, 90, 40], [1, 4, 2.5])
    interval = speedup_interval(method, plain, ["a", "b", "b"], 100)
    assert (interval.value, interval.low, interval.high) == pytest.approx((2, 2, 2))


def test_prompts_are_drawn_within_their_task() -> None:
    method, plain = speeds([10] * 4, [1, 1, 5, 5]), speeds([10] * 4, [9] * 4)
    stratified = speedup_interval(method, plain, ["a", "a", "b", "b"], 200)
    assert stratified.low == pytest.approx(stratified.value) == pytest.approx(stratified.high)
    pooled = speedup_interval(method, plain, ["a"] * 4, 2000)
    assert (pooled.low, pooled.high) == pytest.approx((9 / 5, 9))


@pytest.mark.parametrize("tasks", [["a", "b"], ["a", "b", "b"], ["c", "a", "a"]])
def test_tasks_of_one_prompt_are_drawn_from_together(tasks: list[str]) -> None:
    """Each alone would have no spread, and so look certain."""
    method, plain = (
        speeds([10, 10, 10][: len(tasks)], [1, 5, 5][: len(tasks)]),
        speeds([10] * len(tasks), [9] * len(tasks)),
    )
    found = speedup_interval(method, plain, tasks, 2000)
    assert found == speedup_interval(method, plain, ["a"] * len(tasks), 2000)
    assert found.low < found.value < found.high


def test_one_prompt_bounds_nothing_but_plain_decoding_beside_itself() -> None:
    method, plain = speeds([10], [6]), speeds([10], [9])
    assert speedup_interval(method, plain, ["a"], 100) == Interval(1.5, 0.0, math.inf)
    assert speedup_interval(plain, plain, ["a"], 100) == Interval(1.0, 1.0, 1.0)


def test_a_known_ratio_lies_in_most_intervals() -> None:
    intervals = [noisy(seed) for seed in range(100)]
    covered = sum(each.low <= 2 <= each.high for each in intervals)
    assert 88 <= covered < 100
    assert all(each.low < each.value < each.high for each in intervals)


def test_more_prompts_narrow_the_interval() -> None:
    few, many = noisy(0, prompts=20), noisy(0, prompts=2000)
    assert many.high - many.low < (few.high - few.low) / 3


def test_the_same_seed_gives_the_same_interval() -> None:
    assert noisy(3) == noisy(3)
