"""Which way is fastest, and when a router had better abstain."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskspec.evaluation.route_speed import (
    best_threshold,
    fastest_ways,
    regret,
    routed_seconds,
    task_means,
    without_chance,
)

SECONDS = st.floats(0.01, 10)
PROMPTS = st.lists(st.tuples(st.floats(0, 1, width=32), SECONDS, SECONDS), min_size=1, max_size=12)


def test_a_prompt_is_labelled_with_what_is_fastest_for_it() -> None:
    seconds = np.array([[1.0, 0.5, 0.8], [0.4, 0.5, 0.8]])
    assert fastest_ways(seconds, np.array([2, 2])).tolist() == [1, 0]


def test_a_tie_within_noise_goes_to_the_own_task() -> None:
    seconds = np.array([[1.0, 0.99], [1.0, 0.97]])
    assert fastest_ways(seconds, np.array([0, 0])).tolist() == [0, 1]


def test_what_chance_spreads_is_not_a_prompts_own() -> None:
    """200 prompts alike but for chance; 200 that differ, of which as many answer faster."""
    draw = np.random.default_rng(0)
    tasks = np.repeat([0, 1], 200)
    true = np.where(tasks == 0, 1.0, np.where(np.arange(400) % 2, 0.7, 1.3))[:, None]
    halves = true + draw.normal(0, 0.2, size=(2, 400, 1))
    drawn = without_chance(halves.mean(axis=0), halves, tasks)
    assert drawn[tasks == 0] == pytest.approx(1.0, abs=0.1)
    off = np.abs(drawn - true)[tasks == 1].mean()
    assert off < np.abs(halves.mean(axis=0) - true)[tasks == 1].mean()
    assert np.abs(drawn - 1)[tasks == 1].mean() > 0.2


def test_prompts_that_were_not_measured_count_as_their_tasks_mean() -> None:
    seconds, tasks = np.array([[1.0, 3.0], [5.0, 5.0], [2.0, 1.0]]), np.array([4, 0, 4])
    assert task_means(seconds, tasks, np.array([4, 0, 4])).tolist() == [[1.5, 2], [5, 5], [1.5, 2]]
    assert task_means(seconds, tasks, np.array([], dtype=np.int64)).shape == (0, 2)


@given(st.lists(st.tuples(SECONDS, SECONDS), min_size=1, max_size=8))
def test_where_nothing_is_chance_every_prompt_keeps_its_own_seconds(
    seconds: list[tuple[float, float]],
) -> None:
    known = np.array(seconds)
    tasks = np.zeros(len(known), dtype=np.int64)
    assert without_chance(known, np.stack([known, known]), tasks) == pytest.approx(known)


def test_the_router_abstains_where_its_choices_lose() -> None:
    probabilities = np.array([0.4, 0.6, 0.9])
    chosen, fallback = np.array([3.0, 1.0, 1.0]), np.array([2.0, 2.0, 2.0])
    assert best_threshold(probabilities, chosen, fallback) == pytest.approx(0.5)
    assert best_threshold(probabilities, fallback + 1, fallback) == 1
    assert best_threshold(probabilities, fallback - 1, fallback) == 0
    assert best_threshold(probabilities, fallback, fallback) == 1


@given(PROMPTS, st.floats(0, 1))
def test_no_other_threshold_is_faster_so_the_fallback_bounds_the_worst_case(
    prompts: list[tuple[float, float, float]], other: float
) -> None:
    probabilities, chosen, fallback = np.array(prompts).T
    found = best_threshold(probabilities, chosen, fallback)
    total = routed_seconds(probabilities, chosen, fallback, found).sum()
    slack = 1 + 1e-8
    assert total <= routed_seconds(probabilities, chosen, fallback, other).sum() * slack
    assert total <= fallback.sum() * slack


@given(PROMPTS)
def test_regret_is_a_share_and_nothing_for_the_oracle(
    prompts: list[tuple[float, float, float]],
) -> None:
    _, chosen, fallback = np.array(prompts).T
    oracle = np.minimum(chosen, fallback)
    assert regret(oracle, oracle) == 0
    assert 0 <= regret(chosen, oracle) < 1
