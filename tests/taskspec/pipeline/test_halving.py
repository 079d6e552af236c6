"""How long rounds are, what they cost together, and who goes on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskspec.pipeline.halving import (
    GOES_ON,
    OUT_OF_REACH,
    OUTRANKED,
    Promise,
    going_on,
    planned_share,
    round_ends,
    verdicts,
)
from taskspec.recipe.alignment import AlignConfig, SearchConfig

configs = st.builds(
    SearchConfig, rounds=st.integers(1, 6), keep=st.floats(0.05, 0.95, exclude_max=True)
)
promises = st.dictionaries(
    st.text("abcdef", min_size=1, max_size=2),
    st.builds(Promise, predicted=st.floats(0, 3), ceiling=st.floats(0, 4)),
    min_size=1,
)


def test_every_round_ends_at_a_share_of_where_the_next_one_does() -> None:
    assert round_ends(SearchConfig(rounds=3, keep=0.5)) == (0.25, 0.5, 1.0)
    assert round_ends(SearchConfig()) == (1.0,)


def test_a_search_costs_what_its_rounds_cost() -> None:
    # Four drafts for a quarter, two for the next one, one for the rest.
    assert planned_share(4, SearchConfig(rounds=3, keep=0.5)) == 4 * 0.25 + 2 * 0.25 + 0.5


@given(configs, st.integers(1, 12))
def test_a_search_never_costs_more_than_training_all_or_less_than_one(
    config: SearchConfig, drafts: int
) -> None:
    assert 1 - 1e-9 <= planned_share(drafts, config) <= drafts + 1e-9
    if config.rounds == 1:
        assert planned_share(drafts, config) == drafts


@given(st.integers(1, 50), st.floats(0.01, 0.99))
def test_one_draft_always_goes_on_and_never_more_than_there_are(drafts: int, keep: float) -> None:
    assert 1 <= going_on(drafts, keep) <= drafts


def test_shares_that_floats_round_up_keep_no_draft_too_many() -> None:
    assert going_on(30, 0.1) == 3


def test_the_best_promises_go_on() -> None:
    found = {name: Promise(s, 3.0) for name, s in (("a", 1.1), ("b", 1.4), ("c", 0.9))}
    assert verdicts(found, 1.4, 0.5) == {"a": GOES_ON, "b": GOES_ON, "c": OUTRANKED}


def test_a_draft_that_could_not_win_if_all_it_drafts_stood_is_dropped() -> None:
    found = {"slow": Promise(0.5, 1.2), "late": Promise(0.4, 1.5)}
    assert verdicts(found, 1.3, 0.5) == {"slow": OUT_OF_REACH, "late": GOES_ON}


@given(promises, st.floats(0, 4), st.floats(0.05, 0.95))
def test_who_goes_on_promises_no_less_than_who_was_outranked(
    found: dict[str, Promise], incumbent: float, keep: float
) -> None:
    decided = verdicts(found, incumbent, keep)
    assert decided.keys() == found.keys()
    kept = [found[n].predicted for n, verdict in decided.items() if verdict == GOES_ON]
    outranked = [found[n].predicted for n, verdict in decided.items() if verdict == OUTRANKED]
    assert len(kept) <= going_on(len(found), keep)
    assert min(kept, default=9.0) >= max(outranked, default=0.0)
    if all(promise.predicted < incumbent <= promise.ceiling for promise in found.values()):
        assert kept


def test_a_search_is_not_spread_over_devices() -> None:
    with pytest.raises(ValueError, match="jobs must be one-by-one where search"):
        AlignConfig(search=SearchConfig(rounds=2), jobs="side-by-side")
