"""The hedge keeps its bound against anything, and draws as it says."""

from __future__ import annotations

import math
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskspec.decoding.hedging import Hedge

PRIOR = (0.1, 0.7, 0.2)
ROUNDS = st.lists(st.tuples(*[st.floats(-0.5, 0.5)] * 3), min_size=1, max_size=200)


@settings(max_examples=100, deadline=None)
@given(ROUNDS)
def test_no_savings_make_it_lose_more_than_its_bound(rounds):
    hedge, expected, slack = Hedge(PRIOR, "seed", first=1), 0.0, 0.0
    for savings in rounds:
        rate = hedge.rate
        expected += sum(p * s for p, s in zip(hedge.shares(), savings, strict=True))
        slack += rate / 8
        hedge.update(savings)
    for way, prior in enumerate(PRIOR):
        total = sum(savings[way] for savings in rounds)
        assert total - expected <= math.log(1 / prior) / rate + slack + 1e-9


def test_draws_are_distributed_as_the_shares_and_seldom_change():
    rounds = [(0.3, 0.0, -0.2)] * 6 + [(-0.4, 0.5, 0.1)] * 6
    runs, seen, moves = 4000, Counter(), 0
    shares = []
    for run in range(runs):
        hedge = Hedge(PRIOR, str(run), first=1)
        before, shares = 1, []
        for place, savings in enumerate(rounds):
            shares.append(hedge.shares())
            at = hedge.draw()
            seen[place, at] += 1
            moves += at != before
            before = at
            hedge.update(savings)
    for place, each in enumerate(shares):
        for way, share in enumerate(each):
            spread = 6 * math.sqrt(share * (1 - share) / runs)
            assert abs(seen[place, way] / runs - share) <= spread
    start = [0.0, 1.0, 0.0]
    distances = [
        sum(max(0.0, b - a) for a, b in zip(one, two, strict=True))
        for one, two in zip([start, *shares], shares, strict=False)
    ]
    assert moves / runs == pytest.approx(sum(distances), rel=0.1)


def test_the_same_seed_draws_the_same_ways():
    def ways(seed: str) -> list[int]:
        hedge = Hedge((0.5, 0.5), seed, first=0)
        drawn = []
        for place in range(30):
            drawn.append(hedge.draw())
            hedge.update((0.1 * (place % 3), 0.1))
        return drawn

    assert ways("a") == ways("a")
    assert len({tuple(ways(str(seed))) for seed in range(20)}) > 1
