"""What steps cost and bring, in steps of plain decoding."""

from __future__ import annotations

from dataclasses import replace

import pytest
from corrections import PASSES, way

from taskspec.decoding.cost import AcceptanceCurve, TargetCost
from taskspec.decoding.prices import Estimate, Prices, mean_steps

CURVE = AcceptanceCurve((1.5, 1.8, 2.0, 2.1), (0.2, 0.0, 0.3, 0.0, 0.5))


def test_a_mean_step_costs_what_steps_of_each_length_cost() -> None:
    # Passes over more than two tokens cost twice as much: their mean length would hide it.
    prices, draft = (
        Prices(TargetCost((1.0, 1.0, 2.0, 2.0, 2.0)), 0.0),
        replace(way("a", 0.1), curve=CURVE),
    )
    _, two, _, four = mean_steps(prices, draft)
    assert two == pytest.approx(0.2 * (1 + 0.1) + 0.8 * (2 + 0.2))
    assert four == pytest.approx(0.2 * (1 + 0.1) + 0.3 * (2 + 0.3) + 0.5 * (2 + 0.4))


def test_a_mean_steps_tokens_over_its_cost_are_the_speed_up_model() -> None:
    prices, draft = Prices(PASSES, 0.1), replace(way("a", 0.1), curve=CURVE)
    cost = mean_steps(prices, draft)[2]
    saved = CURVE.speedup(3, 0.1, PASSES, 0.1) * (1 + 0.1)
    assert CURVE.block_efficiency[2] / cost == pytest.approx(saved)


def test_a_draft_that_only_loses_is_left_to_rest_and_tried_again_later() -> None:
    estimate = Estimate(way("a"), way("a").curve, Prices(PASSES, 0.1))
    length, saving = estimate.best()
    assert length > 0 and saving > 0
    for _ in range(12):
        estimate.learn(4, 0)
    assert estimate.best() == (0, 0.0)
    estimate.fade(1)
    assert estimate.best() == (0, 0.0)
    estimate.fade(200)
    assert estimate.best()[0] > 0


def test_a_draft_that_promises_little_is_tried_before_it_rests() -> None:
    dear = way("a", 0.9)
    estimate = Estimate(dear, dear.curve, Prices(PASSES, 0.1))
    length, saving = estimate.best()
    assert length > 0 > saving
    estimate.learn(4, 0)
    assert estimate.best() == (0, 0.0)


def test_a_pass_longer_than_any_timed_costs_as_much_a_token_as_the_longest() -> None:
    prices = Prices(PASSES, 0.0, rows=2)
    assert prices.step(way("a", 0.0), 4, 4) == pytest.approx(1.2 * 10 / 5 / 1.05)
