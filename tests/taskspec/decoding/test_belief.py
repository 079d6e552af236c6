"""Few steps tell how far a draft falls short of its promise."""

from __future__ import annotations

import random
from collections.abc import Iterable
from itertools import accumulate, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskspec.decoding.belief import Belief
from taskspec.decoding.cost import AcceptanceCurve

LENGTH = 4


def promise(chance: float) -> AcceptanceCurve:
    """Each token stands with that probability, given that those before it stood."""
    tau = accumulate(accumulate([chance] * LENGTH, lambda a, b: a * b), initial=1.0)
    return AcceptanceCurve(tuple(tau)[1:], (0.1, 0.0, 0.0, 0.0, 0.9))


PROMISE = promise(0.6)


def believing(
    steps: Iterable[tuple[int, int, int]], promised: AcceptanceCurve = PROMISE
) -> AcceptanceCurve:
    belief = Belief(promised, LENGTH)
    for step in steps:
        belief.learn(*step)
    return belief.curve


def test_at_first_it_is_near_the_promise() -> None:
    found = believing([])
    assert found.block_efficiency == pytest.approx(PROMISE.block_efficiency, rel=0.1)
    assert found.block_efficiency[0] < PROMISE.block_efficiency[0]
    assert found.drafted == pytest.approx(PROMISE.drafted)
    shorter = Belief(PROMISE, 2).curve
    assert shorter.block_efficiency == pytest.approx(found.block_efficiency[:2])


@pytest.mark.parametrize("chance", [0.02, 0.3, 0.6, 0.95])
@pytest.mark.parametrize("promised", [0.1, 0.6, 0.95])
def test_an_answer_of_few_steps_shows_what_a_draft_brings(chance: float, promised: float) -> None:
    drawn, truth = random.Random(1), promise(chance).block_efficiency[-1]
    found = 0.0
    for _ in range(40):
        steps = []
        for _ in range(25):
            accepted = next((n for n in range(LENGTH) if drawn.random() >= chance), LENGTH)
            steps.append((LENGTH, LENGTH, accepted))
        found += believing(steps, promise(promised)).block_efficiency[-1] / 40
    assert found == pytest.approx(truth, rel=0.2)


def test_failures_at_the_first_token_say_something_of_the_last() -> None:
    tail = [
        curve.block_efficiency[3] - curve.block_efficiency[2]
        for curve in (PROMISE, believing([(4, 4, 0)] * 6))
    ]
    assert tail[1] < 0.5 * tail[0]


def test_a_draft_that_proposes_nothing_brings_nothing_and_costs_little() -> None:
    found = believing([(4, 0, 0)] * 30)
    assert found.block_efficiency[3] < 1.1
    assert found.mean_drafted(4) < 0.2 * PROMISE.mean_drafted(4)


def test_what_was_seen_fades_until_the_promise_is_left() -> None:
    belief = Belief(PROMISE, 4)
    first = belief.curve
    for _ in range(20):
        belief.learn(4, 0, 0)
    low = belief.curve
    belief.fade(0.3)
    between = belief.curve
    belief.fade(0.0)
    for value in (lambda curve: curve.block_efficiency[3], lambda curve: curve.mean_drafted(4)):
        assert value(low) < value(between) < value(first)
        assert value(belief.curve) == pytest.approx(value(first))


@settings(max_examples=60, deadline=None)
@given(
    tau=st.lists(st.floats(0, 1), min_size=1, max_size=6),
    steps=st.lists(st.tuples(*[st.integers(0, 6)] * 3), max_size=30),
)
def test_it_is_always_a_curve(tau: list[float], steps: list[tuple[int, int, int]]) -> None:
    added, curve = 1.0, [1.0]
    for chance in tau:
        added *= chance
        curve.append(curve[-1] + added)
    belief = Belief(AcceptanceCurve(tuple(curve[1:]), (0.0,) * len(tau) + (1.0,)), len(tau))
    for asked, fewer, refused in steps:
        drafted = max(0, min(asked, len(tau)) - fewer)
        belief.learn(asked, drafted, max(0, drafted - refused))
    found = belief.curve
    gains = [b - a for a, b in pairwise((1.0, *found.block_efficiency))]
    assert all(1 >= before >= after - 1e-9 >= -1e-9 for before, after in pairwise(gains))
    assert sum(found.drafted) == pytest.approx(1) and min(found.drafted) >= -1e-9
