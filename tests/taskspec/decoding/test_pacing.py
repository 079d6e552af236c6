"""In a batch every drafted token has to earn its place in the pass."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskspec.decoding.cost import AcceptanceCurve, TargetCost
from taskspec.decoding.pacing import DraftPace, Pace
from taskspec.decoding.records import DraftChoice, StepRecord

SURE, UNSURE = DraftChoice("sure", 4), DraftChoice("unsure", 4)


def curve(rate: float, drafted: float = 1.0) -> AcceptanceCurve:
    """Acceptance of a draft whose every token stands with one chance."""
    lengths = range(1, 5)
    taus = tuple(1 + drafted * sum(rate**i for i in range(1, k + 1)) for k in lengths)
    return AcceptanceCurve(taus, (1 - drafted, 0, 0, 0, drafted))


def pace(passes: tuple[float, ...], seconds: float = 0.02, overhead: float = 0.0) -> Pace:
    drafts = {
        SURE: DraftPace(curve(0.9), seconds),
        UNSURE: DraftPace(curve(0.4), seconds),
    }
    return Pace(TargetCost(passes), overhead, drafts)


FREE = (1.0,) * 64
"""The memory is all that counts."""
BUSY = tuple(0.7 + 0.3 * n for n in range(1, 65))
"""Every further token costs three tenths of the first."""


def test_where_tokens_are_free_drafts_are_as_long_as_asked() -> None:
    assert pace(FREE, seconds=0.0).lengths([SURE] * 8) == [4] * 8


def test_where_tokens_are_dear_only_sure_ones_are_drafted() -> None:
    assert pace(BUSY).lengths([UNSURE] * 8) == [0] * 8
    lengths = pace(BUSY).lengths([SURE, UNSURE, None, SURE])
    assert lengths[0] == lengths[3] > 0 and lengths[1:3] == [0, 0]


def test_one_row_drafts_where_eight_do_not() -> None:
    flat_then_steep = (*(1.0,) * 8, *(1.0 + 0.6 * n for n in range(1, 57)))
    assert pace(flat_then_steep).lengths([UNSURE])[0] > 0
    assert pace(flat_then_steep).lengths([UNSURE] * 8) == [0] * 8


def test_a_way_of_which_nothing_is_known_drafts_as_far_as_asked() -> None:
    unknown = DraftChoice("stranger", 3)
    assert pace(BUSY).lengths([unknown, None]) == [3, 0]


def test_a_draft_that_seldom_speaks_costs_seldom() -> None:
    lookup = DraftChoice("lookup", 4)
    passes = TargetCost(tuple(1 + 0.2 * n for n in range(64)))
    seldom = Pace(passes, 0.0, {lookup: DraftPace(curve(0.95, drafted=0.1), 0.0)})
    assert seldom.lengths([lookup] * 4)[0] >= 3


def test_what_the_steps_show_counts_more_and_more() -> None:
    paced = pace(BUSY)
    assert paced.lengths([SURE] * 8)[0] > 0
    refused = [StepRecord(4, 0, 1)] * 8
    for _ in range(32):
        paced.learn([SURE] * 8, [4] * 8, refused)
    assert paced.lengths([SURE] * 8) == [0] * 8
    assert paced.fresh().lengths([SURE] * 8)[0] > 0, "another batch begins with the promise"
    plain = [StepRecord(0, 0, 1)] * 8
    for _ in range(400):
        paced.learn([SURE] * 8, [0] * 8, plain)
    assert paced.lengths([SURE] * 8)[0] > 0, "later texts are given another chance"


def test_steps_that_the_end_of_an_answer_cut_and_rows_that_drafted_nothing_show_nothing() -> None:
    paced = pace(BUSY)
    before = paced.lengths([SURE, UNSURE, None])
    for _ in range(64):
        cut, plain = StepRecord(4, 3, 3), StepRecord(0, 0, 1)
        paced.learn([SURE, UNSURE, None], [4, 0, 0], [cut, plain, plain])
    assert paced.lengths([SURE, UNSURE, None]) == before


def test_a_small_gain_is_not_worth_a_start() -> None:
    dear = pace(tuple(1 + 0.885 * n for n in range(64)), seconds=0.0)
    assert 1.0 < dear.rate([(SURE, 1)], {SURE: 1}) < 1.03
    assert dear.lengths([SURE]) == [0]


def test_a_pass_longer_than_any_measured_costs_in_proportion() -> None:
    short = pace((1.0, 1.0))
    assert short.rate([(None, 8)], {None: 0}) == pytest.approx(8 / 4)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from([SURE, UNSURE, None]), min_size=1, max_size=8),
    st.floats(0.0, 0.8),
    st.floats(0.0, 0.3),
)
def test_no_choice_promises_less_than_plain_decoding_or_much_less_than_the_best(
    choices: list[DraftChoice | None], slope: float, seconds: float
) -> None:
    passes = tuple(1 + slope * max(0, n - 4) for n in range(1, 65))
    paced = pace(passes, seconds)
    lengths = paced.lengths(choices)
    groups = [(each, choices.count(each)) for each in dict.fromkeys(choices)]
    chosen = dict(zip(choices, lengths, strict=True))
    assert len(chosen) == len(groups), "rows that draft alike go equally far"
    own = paced.rate(groups, chosen)
    assert own >= paced.rate(groups, dict.fromkeys(chosen, 0)) - 1e-9
    assert any(lengths) <= (own > 1.03 * paced.rate(groups, dict.fromkeys(chosen, 0)))
    ways = [[0] if each is None else range(5) for each, _ in groups]
    best = max(
        paced.rate(groups, dict(zip(chosen, tried, strict=True)))
        for tried in itertools.product(*ways)
    )
    assert own >= 0.9 * best
