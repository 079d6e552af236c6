"""From timings to rows: two prompts a task, answered by plain decoding and two drafts."""

from __future__ import annotations

import pytest

from taskspec.decoding.records import StepRecord
from taskspec.evaluation.matrix import Matrix, Timing

TASKS = {"p1": "code", "p2": "code", "p3": "math", "p4": "math"}
TOKENS = {"p1": 10, "p2": 30, "p3": 20, "p4": 40}
SECONDS = {
    "plain": {"p1": 10.0, "p2": 30.0, "p3": 20.0, "p4": 40.0},
    "small": {"p1": 2.0, "p2": 8.0, "p3": 20.0, "p4": 40.0},
    "large": {"p1": 5.0, "p2": 15.0, "p3": 10.0, "p4": 20.0},
}
POOL = ["small", "large"]
FULL, NONE = StepRecord(2, 2, 3), StepRecord(2, 0, 1)
STEPS = {"plain": (StepRecord(0, 0, 1),), "small": (FULL, NONE), "large": (FULL, FULL)}


def timing(
    prompt: str, method: str, seconds: float, repeat: int = 0, length: int | None = 2
) -> Timing:
    return Timing(prompt, method, repeat, seconds, TOKENS[prompt], STEPS[method], length)


def make_matrix(*more: Timing) -> Matrix:
    timings = [
        timing(prompt, method, seconds)
        for method, each in SECONDS.items()
        for prompt, seconds in each.items()
    ]
    return Matrix([*timings, *more], TASKS, resamples=100)


def repeated(**seconds: list[float]) -> Matrix:
    """One prompt, in as many repeats as there are seconds for each method."""
    timings = [
        timing("p1", method, value, repeat)
        for method, values in seconds.items()
        for repeat, value in enumerate(values)
    ]
    return Matrix(timings, {"p1": "code"}, resamples=10)


def test_speeds_are_pooled_not_averaged() -> None:
    assert make_matrix().speed("small", ["p1", "p3"]) == pytest.approx(30 / 22)


def test_a_prompt_takes_the_median_of_its_repeats() -> None:
    matrix = repeated(small=[1.0, 9.0, 2.0])
    assert matrix.seconds("small", "p1") == 2
    assert matrix.speed("small", ["p1"]) == 5


def test_there_is_a_row_per_task_and_one_over_all() -> None:
    accuracy = {"code": 0.9, "all": 0.5}
    code, math, overall = make_matrix().rows("small", accuracy)
    assert [row.task for row in (code, math, overall)] == ["code", "math", "all"]
    assert code.tokens_per_second == pytest.approx(40 / 10)
    assert (code.speedup, math.speedup) == pytest.approx((4, 1))
    assert overall.speedup == pytest.approx(100 / 70)
    assert overall.speedup_low <= overall.speedup <= overall.speedup_high
    assert (code.draft_accuracy, math.draft_accuracy, overall.draft_accuracy) == (0.9, None, 0.5)
    assert (code.prompts, code.tokens, overall.prompts, overall.tokens) == (2, 40, 4, 100)


def test_rows_measure_the_steps_of_their_prompts() -> None:
    row = make_matrix().rows("small", {})[0]
    assert (row.block_efficiency, row.acceptance_rate, row.draft_length) == (2, 0.5, 2)
    plain = make_matrix().rows("plain", {})[-1]
    assert (plain.speedup, plain.block_efficiency, plain.acceptance_rate) == (1, 1, None)


def test_mixed_draft_lengths_have_no_common_one() -> None:
    lengths = {"p1": 2, "p2": 2, "p3": 4, "p4": 4}
    routed = [Timing(p, "routed", 0, 1.0, TOKENS[p], (), k) for p, k in lengths.items()]
    rows = make_matrix(*routed).rows("routed", {})
    assert [row.draft_length for row in rows] == [2, 4, None]


def test_best_single_is_the_member_that_is_fastest_overall() -> None:
    # Over all prompts small takes 70 seconds, large 50, though small is the best on `code`.
    assert make_matrix().best_single(POOL) == "large"


def test_random_takes_the_mean_time_of_the_pool() -> None:
    timings = make_matrix().random(POOL, "random")
    assert {t.prompt: t.seconds for t in timings} == {"p1": 3.5, "p2": 11.5, "p3": 15, "p4": 30}
    assert {t.prompt: t.tokens for t in timings} == TOKENS
    row = make_matrix(*timings).rows("random", {})[-1]
    assert row.speedup == pytest.approx(100 / 60)
    assert (row.block_efficiency, row.acceptance_rate) == (2.5, 0.75)


def test_of_sampled_answers_the_fastest_is_not_the_shortest() -> None:
    wrote = {"short": (10, 4.0), "long": (40, 8.0)}
    timings = [Timing("p1", name, 0, *pair[::-1], (), 2) for name, pair in wrote.items()]
    matrix = Matrix(timings, {"p1": "code"}, resamples=10)
    pool = list(wrote)
    assert matrix.fastest(pool, "p1") == matrix.best_single(pool) == "long"
    (drawn,) = matrix.random(pool, "random")
    assert drawn.tokens / drawn.seconds == pytest.approx(50 / 12)


def test_the_oracle_takes_the_fastest_for_each_prompt() -> None:
    timings = make_matrix().oracle(dict.fromkeys(TASKS, POOL), "oracle")
    assert {t.prompt: t.seconds for t in timings} == {"p1": 2, "p2": 8, "p3": 10, "p4": 20}
    assert {t.method for t in timings} == {"oracle"}
    best = make_matrix(*timings).speed("oracle", list(TASKS))
    assert all(best > make_matrix().speed(method, list(TASKS)) for method in POOL)


def test_the_oracle_does_not_profit_from_a_lucky_repeat() -> None:
    # Chosen on the first repeat, scored on the others: luck in the first does not count.
    matrix = repeated(small=[1.0, 9.0, 8.0], large=[5.0, 5.0, 5.0])
    assert [t.seconds for t in matrix.oracle(dict.fromkeys(TASKS, POOL), "oracle")] == [9, 8]


def test_a_speedup_compares_the_repeats_that_both_have() -> None:
    plain = {"plain": [12.0, 20.0, 20.0]}
    first_only = repeated(**plain, small=[4.0]).rows("small", {})[-1]
    assert first_only.speedup == pytest.approx(12 / 4)
    all_three = repeated(**plain, small=[4.0, 5.0, 5.0]).rows("small", {})[-1]
    assert all_three.speedup == pytest.approx(20 / 5)
