"""Few steps tell how far a draft falls short of its promise."""

from __future__ import annotations

import random
from collections.abc import Iterable
from itertools import accumulate, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskspec.decoding.belief import Belief

LENGTH = 4


def promise(chance: float) -> tuple[float, ...]:
    """Each token stands with that probability, given that those before it stood."""
    tau = accumulate(accumulate([chance] * LENGTH, lambda a, b: a * b), initial=1.0)
    return tuple(tau)[1:]


PROMISE = promise(0.6)


def believing(
    steps: Iterable[tuple[int, int]], promised: tuple[float, ...] = PROMISE
) -> list[float]:
    belief = Belief(promised)
    for step in steps:
        belief.learn(*step)
    return belief.block_efficiency()


def test_at_first_it_is_near_the_promise() -> None:
    found = believing([])
    assert found == pytest.approx(PROMISE, rel=0.1) and found[0] < PROMISE[0]
    assert Belief(PROMISE[:2]).block_efficiency() == pytest.approx(found[:2])


@pytest.mark.parametrize("chance", [0.02, 0.3, 0.6, 0.95])
@pytest.mark.parametrize("promised", [0.1, 0.6, 0.95])
def test_an_answer_of_few_steps_shows_what_a_draft_brings(chance: float, promised: float) -> None:
    drawn, found = random.Random(1), 0.0
    for _ in range(40):
        steps = []
        for _ in range(25):
            accepted = next((n for n in range(LENGTH) if drawn.random() >= chance), LENGTH)
            steps.append((LENGTH, accepted))
        found += believing(steps, promise(promised))[-1] / 40
    assert found == pytest.approx(promise(chance)[-1], rel=0.2)


def test_failures_at_the_first_token_say_something_of_the_last() -> None:
    before, after = (tau[3] - tau[2] for tau in (PROMISE, believing([(4, 0)] * 6)))
    assert after < 0.5 * before


def test_a_step_that_was_asked_for_less_says_nothing_of_what_would_have_followed() -> None:
    short, whole = believing([(2, 2)] * 6), believing([(4, 2)] * 6)
    assert short[3] > PROMISE[3] and whole[3] < short[3]


def test_what_was_seen_fades_until_the_promise_is_left() -> None:
    belief = Belief(PROMISE)
    first = belief.block_efficiency()
    for _ in range(20):
        belief.learn(4, 0)
    low = belief.block_efficiency()
    belief.fade(0.3)
    between = belief.block_efficiency()
    belief.fade(0.0)
    assert low[3] < between[3] < first[3]
    assert belief.block_efficiency() == pytest.approx(first)


@settings(max_examples=60, deadline=None)
@given(
    chances=st.lists(st.floats(0, 1), min_size=1, max_size=6),
    steps=st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=30),
)
def test_each_further_token_brings_no_more_than_the_last(
    chances: list[float], steps: list[tuple[int, int]]
) -> None:
    standing = accumulate(chances, lambda a, b: a * b, initial=1.0)
    belief = Belief(tuple(accumulate(standing))[1:])
    for asked, refused in steps:
        asked = min(asked, len(chances))
        belief.learn(asked, max(0, asked - refused))
    gains = [b - a for a, b in pairwise((1.0, *belief.block_efficiency()))]
    assert all(1 >= before >= after - 1e-9 >= -1e-9 for before, after in pairwise(gains))
