"""How far a draft goes begins with the promise and ends with what was seen."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskspec.decoding.cost import AcceptanceCurve
from taskspec.decoding.reach import Reach

PROMISE = AcceptanceCurve((1.8, 2.4, 2.7), (0.1, 0.2, 0.0, 0.7))


def test_at_first_it_is_the_promise() -> None:
    assert Reach(PROMISE, 3, 4.0).shares() == pytest.approx([0.9, 0.7, 0.7])
    assert Reach(PROMISE, 2, 4.0).shares() == pytest.approx([0.9, 0.7])


def test_the_promise_weighs_as_many_steps_as_it_counts_for() -> None:
    reach = Reach(PROMISE, 3, 4.0)
    for _ in range(12):
        reach.learn(3, 0)
    assert reach.shares() == pytest.approx([0.9 / 4, 0.7 / 4, 0.7 / 4])


def test_a_step_says_nothing_of_places_that_it_was_not_asked_for() -> None:
    reach = Reach(PROMISE, 3, 4.0)
    reach.learn(1, 1)
    assert reach.asked == [5.0, 4.0, 4.0]
    assert reach.shares() == pytest.approx([4.6 / 5, 0.7, 0.7])


def test_more_than_the_longest_may_be_asked_for() -> None:
    reach = Reach(PROMISE, 2, 1.0)
    reach.learn(5, 4)
    assert reach.asked == [2.0, 2.0]
    assert reach.shares() == pytest.approx([1.9 / 2, 1.7 / 2])


def test_what_was_seen_fades() -> None:
    reach = Reach(PROMISE, 3, 4.0)
    for _ in range(12):
        reach.learn(3, 0)
    reach.fade(0.5)
    assert reach.asked == [10.0] * 3
    assert reach.shares() == pytest.approx([3.6 / 10, 2.8 / 10, 2.8 / 10])
    reach.fade(0.0)
    assert reach.asked == [4.0] * 3
    assert reach.shares() == pytest.approx([0.9, 0.7, 0.7])


def test_renewed_it_promises_what_was_seen_and_learns_apart() -> None:
    reach = Reach(PROMISE, 3, 4.0)
    for _ in range(12):
        reach.learn(3, 0)
    again = reach.renewed()
    assert again.shares() == pytest.approx(reach.shares()) and again.asked == [4.0] * 3
    again.learn(3, 3)
    assert again.shares() != reach.shares() == pytest.approx([0.9 / 4, 0.7 / 4, 0.7 / 4])
    again.fade(0.0)
    assert again.shares() == pytest.approx(reach.shares())


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=30))
def test_fewer_steps_draft_more_tokens(steps: list[tuple[int, int]]) -> None:
    reach = Reach(PROMISE, 3, 2.0)
    for asked, drafted in steps:
        reach.learn(asked, min(asked, drafted))
    assert all(1 >= a >= b >= 0 for a, b in pairwise((1.0, *reach.shares())))
