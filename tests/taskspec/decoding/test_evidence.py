"""What is known of a draft begins with the promise and ends with what was seen."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskspec.decoding.cost import AcceptanceCurve, acceptance_curve
from taskspec.decoding.evidence import Evidence
from taskspec.decoding.records import StepRecord

PROMISE = AcceptanceCurve((1.8, 2.4, 2.7), (0.1, 0.2, 0.0, 0.7))


def test_at_first_it_is_the_promise() -> None:
    found = Evidence(PROMISE, 3, 4.0).curve
    assert found.block_efficiency == pytest.approx(PROMISE.block_efficiency)
    assert found.drafted == pytest.approx(PROMISE.drafted)
    shorter = Evidence(PROMISE, 2, 4.0).curve
    assert shorter.block_efficiency == pytest.approx(PROMISE.up_to(2).block_efficiency)
    assert shorter.drafted == pytest.approx(PROMISE.up_to(2).drafted)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30))
def test_in_the_end_it_is_what_was_seen(pairs: list[tuple[int, int]]) -> None:
    stood = [min(pair) for pair in pairs]
    steps = [StepRecord(pair[0], n, n + 1) for pair, n in zip(pairs, stood, strict=True)]
    evidence = Evidence(PROMISE, 3, 1e-9)
    for step in steps:
        evidence.learn(3, step.drafted, step.accepted)
    seen = acceptance_curve({"": steps}, 3)
    assert seen is not None
    assert evidence.curve.block_efficiency == pytest.approx(seen.block_efficiency, abs=1e-6)
    assert evidence.curve.drafted == pytest.approx(seen.drafted, abs=1e-6)


def test_what_was_seen_fades() -> None:
    evidence = Evidence(PROMISE, 3, 4.0)
    for _ in range(50):
        evidence.learn(3, 3, 0)
    low = evidence.curve.block_efficiency[2]
    evidence.fade(0.5)
    between = evidence.curve.block_efficiency[2]
    for _ in range(40):
        evidence.fade(0.5)
    assert low < between < evidence.curve.block_efficiency[2]
    assert evidence.curve.block_efficiency == pytest.approx(PROMISE.block_efficiency)
    assert evidence.curve.drafted == pytest.approx(PROMISE.drafted)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(*[st.integers(0, 3)] * 3), max_size=30))
def test_shares_of_what_is_drafted_stay_shares(steps: list[tuple[int, int, int]]) -> None:
    evidence = Evidence(PROMISE, 3, 2.0)
    for asked, drafted, accepted in steps:
        evidence.learn(asked, min(asked, drafted), min(asked, drafted, accepted))
    curve = evidence.curve
    assert sum(curve.drafted) == pytest.approx(1) and min(curve.drafted) >= 0
    assert list(curve.block_efficiency) == sorted(curve.block_efficiency)
