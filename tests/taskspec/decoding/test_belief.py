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
    return AcceptanceCurve(tuple(tau)[1:], (0.0,) * LENGTH + (1.0,))


PROMISE = promise(0.6)


def tau(belief: Belief) -> list[float]:
    return list(accumulate(belief.expected()[1], initial=1.0))[1:]


def believing(
    steps: Iterable[tuple[int, int, int]], promised: AcceptanceCurve = PROMISE
) -> list[float]:
    belief = Belief(promised, LENGTH)
    for step in steps:
        belief.learn(*step)
    return tau(belief)


def test_at_first_it_is_near_the_promise() -> None:
    found = believing([])
    assert found == pytest.approx(PROMISE.block_efficiency, rel=0.1)
    assert found[0] < PROMISE.block_efficiency[0]
    assert tau(Belief(PROMISE, 2)) == pytest.approx(found[:2])


@pytest.mark.parametrize("chance", [0.02, 0.3, 0.6, 0.95])
@pytest.mark.parametrize("promised", [0.1, 0.6, 0.95])
def test_an_answer_of_few_steps_shows_what_a_draft_brings(chance: float, promised: float) -> None:
    drawn, found = random.Random(1), 0.0
    for _ in range(40):
        steps = []
        for _ in range(25):
            accepted = next((n for n in range(LENGTH) if drawn.random() >= chance), LENGTH)
            steps.append((LENGTH, LENGTH, accepted))
        found += believing(steps, promise(promised))[-1] / 40
    assert found == pytest.approx(promise(chance).block_efficiency[-1], rel=0.2)


def test_failures_at_the_first_token_say_something_of_the_last() -> None:
    promised = PROMISE.block_efficiency
    before, after = (tau[3] - tau[2] for tau in (promised, believing([(4, 4, 0)] * 6)))
    assert after < 0.5 * before


def test_a_step_that_was_asked_for_less_says_nothing_of_what_would_have_followed() -> None:
    short, whole = believing([(2, 2, 2)] * 6), believing([(4, 4, 2)] * 6)
    assert short[3] > PROMISE.block_efficiency[3] and whole[3] < short[3]


def test_a_draft_that_is_silent_brings_little_and_is_not_taken_to_be_wrong() -> None:
    belief = Belief(PROMISE, LENGTH)
    for _ in range(20):
        belief.learn(4, 0, 0)
        belief.learn(4, 4, 4)
    drafted, stood = belief.expected()
    assert drafted == pytest.approx([0.5] * 4, abs=0.1)
    assert stood[0] > 0.9 * drafted[0] and stood[3] > 0.7 * drafted[3]


def test_what_was_seen_fades_until_the_promise_is_left() -> None:
    belief = Belief(PROMISE, LENGTH)
    first = belief.expected()
    for _ in range(20):
        belief.learn(4, 4, 0)
        belief.learn(4, 0, 0)
    low = belief.expected()
    belief.fade(0.3)
    between = belief.expected()
    belief.fade(0.0)
    for place in (0, 1):
        assert low[place][3] < between[place][3] < first[place][3]
        assert belief.expected()[place] == pytest.approx(first[place])


@settings(max_examples=60, deadline=None)
@given(
    chances=st.lists(st.floats(0, 1), min_size=1, max_size=6),
    shares=st.lists(st.floats(0.01, 1), min_size=7, max_size=7),
    steps=st.lists(st.tuples(*[st.integers(0, 6)] * 3), max_size=30),
)
def test_fewer_steps_draft_more_tokens_and_in_fewer_still_they_stand(
    chances: list[float], shares: list[float], steps: list[tuple[int, int, int]]
) -> None:
    most = len(chances)
    whole = sum(shares[: most + 1])
    curve = AcceptanceCurve((1.0,) * most, tuple(each / whole for each in shares[: most + 1]))
    stood = accumulate(chances, lambda a, b: a * b)
    reach = [curve.mean_drafted(k) - curve.mean_drafted(k - 1) for k in range(1, most + 1)]
    gains = [own * each for own, each in zip(reach, stood, strict=True)]
    block_efficiency = tuple(accumulate(gains, initial=1.0))[1:]
    belief = Belief(AcceptanceCurve(block_efficiency, curve.drafted), most)
    for asked, fewer, refused in steps:
        asked = min(asked, most)
        drafted = max(0, asked - fewer)
        belief.learn(asked, drafted, max(0, drafted - refused))
    found = belief.expected()
    for falling in found:
        assert all(1 + 1e-9 >= a >= b - 1e-9 >= -1e-9 for a, b in pairwise((1.0, *falling)))
    assert all(stand <= drafts + 1e-9 for drafts, stand in zip(*found, strict=True))


def test_renewed_it_expects_what_many_answers_showed_and_is_open_to_another() -> None:
    many = Belief(PROMISE, LENGTH)
    for _ in range(200):
        many.learn(4, 4, 0)
    one = many.renewed()
    assert tau(many)[-1] < tau(one)[-1] < tau(Belief(PROMISE, LENGTH))[-1]
    for _ in range(8):
        one.learn(4, 4, 4)
    assert tau(one)[-1] > tau(Belief(PROMISE, LENGTH))[-1] > tau(many)[-1]
    one.fade(0.0)
    assert tau(one) == pytest.approx(tau(many.renewed()))
