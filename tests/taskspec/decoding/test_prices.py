"""What steps cost and bring, in steps of plain decoding."""

from __future__ import annotations

from dataclasses import replace

import pytest
from corrections import PASSES, way

from taskspec.decoding.cost import AcceptanceCurve, TargetCost
from taskspec.decoding.prices import Estimate, Prices, step_costs


def test_steps_cost_what_they_draft_and_the_token_that_they_did_not() -> None:
    prices, draft = Prices(TargetCost((1.0, 1.0, 2.0, 2.0, 2.0)), 0.0), way("a", 0.1)
    short, full = step_costs(prices, draft)
    assert short[0] == pytest.approx(1 + 0.1) and full[0] == pytest.approx(1)
    assert short[2] == pytest.approx(2 + 0.3) and full[2] == pytest.approx(2 + 0.2)


def test_a_silent_draft_costs_next_to_nothing_and_is_not_left_to_rest() -> None:
    # It promised to draft nearly always; here it speaks in one step of five, and is right then.
    promised = AcceptanceCurve((1.5, 1.8, 2.0, 2.1), (0.1, 0.0, 0.0, 0.0, 0.9))
    draft = replace(way("a", 0.001), curve=promised)
    estimate = Estimate(draft, promised, Prices(TargetCost((1.0, 1.4, 1.6, 1.8, 2.0)), 0.0))
    for place in range(30):
        estimate.learn(4, 4 * (place % 5 == 0), 4 * (place % 5 == 0))
    length, saving = estimate.best()
    truth = 1 - (0.8 * 1 + 0.2 * 2) / (1 + 0.2 * 4)
    assert length == 4 and saving == pytest.approx(truth, abs=0.1)


def test_a_draft_that_only_loses_is_left_to_rest_and_tried_again_later() -> None:
    estimate = Estimate(way("a"), way("a").curve, Prices(PASSES, 0.1))
    length, saving = estimate.best()
    assert length > 0 and saving > 0
    for _ in range(12):
        estimate.learn(4, 4, 0)
    assert estimate.best() == (0, 0.0)
    estimate.pass_by(1)
    assert estimate.best() == (0, 0.0)
    estimate.pass_by(200)
    assert estimate.best()[0] > 0


def test_a_draft_that_promises_little_is_tried_before_it_rests() -> None:
    dear = way("a", 0.9)
    estimate = Estimate(dear, dear.curve, Prices(PASSES, 0.1))
    length, saving = estimate.best()
    assert length > 0 > saving
    estimate.learn(4, 4, 0)
    assert estimate.best() == (0, 0.0)


def test_a_pass_longer_than_any_timed_costs_as_much_a_token_as_the_longest() -> None:
    prices = Prices(PASSES, 0.0, rows=2)
    assert prices.step(way("a", 0.0), 4, 4) == pytest.approx(1.2 * 10 / 5 / 1.05)


def test_noise_in_what_passes_take_never_makes_longer_ones_cheaper() -> None:
    draft = way("a", 0.1)
    prices = Prices(TargetCost((1.0, 1.4, 1.2, 1.6)), 0.0)
    costs = [prices.step(draft, drafted, 0) for drafted in range(4)]
    assert costs == pytest.approx([1.0, 1.3, 1.3, 1.6])
    # The first pass, too: a step of plain decoding is then taken to be 1.1 and an overhead of 0.12.
    noisy = Prices(TargetCost((1.2, 1.0, 1.5)), 0.1)
    assert noisy.step(draft, 0, 0) == pytest.approx(1)
    assert noisy.step(draft, 2, 2) == pytest.approx((1.5 + 0.12 + 0.2) / 1.22)


def test_another_answer_begins_from_what_many_showed_if_they_were_enough() -> None:
    many = Estimate(way("a"), way("a").curve, Prices(PASSES, 0.1), 0.998)
    promised = many.best()[1]
    for count in (5, 30):
        for _ in range(count):
            many.learn(4, 4, 0)
        one = many.renewed()
        assert bool(one.seen) == (count == 30)
    assert 0 < one.best()[1] < promised / 4 and many.best() == (0, 0.0)
    one.learn(4, 4, 4)
    assert many.seen == 35, "an answer does not teach what it was begun from"
    many.pass_by(5000)
    assert not many.renewed().seen, "what was seen long ago says nothing"
