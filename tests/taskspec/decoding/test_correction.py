"""In-flight correction: within its budget, and away from drafts that fall short."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from corrections import Model, correction, play, play_within_budget, row_of, way
from hypothesis import given, settings
from hypothesis import strategies as st
from taskspec_drafters.prompt_lookup import PromptLookup

from taskspec.decoding.cost import AcceptanceCurve
from taskspec.decoding.records import DraftChoice, Request
from taskspec.decoding.row import Row
from taskspec.interfaces import Drafter, Proposal


def test_a_draft_that_has_not_read_the_text_pays_for_reading_it() -> None:
    own = way("a")
    steering = correction(own)
    spent = []
    for started in (True, False):
        row = row_of({"a": Model()}, "a", steering, started)
        assert row.pilot is not None
        row.pilot.steer()
        assert row.reach > 0
        spent.append(row.pilot.spent)
    assert spent[1] - spent[0] == pytest.approx(steering.prices.reading(own, 4)) and spent[0] == 0


@settings(max_examples=60, deadline=None)
@given(
    outcomes=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=60),
    share=st.floats(0, 0.5),
    grace=st.floats(0, 5),
    own=st.sampled_from(["a", "b", "copy", None]),
    seconds=st.floats(0.001, 3),
    tokens=st.lists(st.integers(2, 5), min_size=1, max_size=9),
)
def test_no_text_makes_it_lose_more_than_the_budget(outcomes, share, grace, own, seconds, tokens):
    drafters = {"a": Model(), "b": Model(), "copy": PromptLookup()}
    steering = correction(
        way("a", seconds), way("b", 0.05), way("copy", 0.01, watched=True), share=share, grace=grace
    )
    row = row_of(drafters, own, steering)
    play_within_budget(row, outcomes, tokens)
    pilot = row.pilot
    assert pilot is not None
    assert pilot.earned == len(row.tokens) - 1
    assert sum(row.served.values()) == len(row.steps)


def test_a_draft_that_falls_short_gives_way_and_one_that_keeps_its_promise_stays():
    drafters = {"a": Model(), "b": Model()}
    steering = correction(way("a"), way("b", 0.9))
    row = row_of(drafters, "a", steering)
    play(row, [(0, 4)] * 60, range(2, 40))
    assert row.served[None] > 30
    row = row_of({"a": Model(), "b": Model()}, "a", steering)
    play(row, [(0, 1)] * 60, range(2, 40))
    assert row.served[steering.ways[0].choice] > 55


def test_a_draft_that_copies_takes_over_where_the_text_repeats():
    drafters = {"a": Model(), "copy": PromptLookup()}
    steering = correction(way("a"), way("copy", 0.002, watched=True), grace=4)
    row = row_of(drafters, "a", steering)
    play(row, [(0, 4)] * 80, (10, 11, 12, 13))
    assert row.served.get(steering.ways[1].choice, 0) > 20
    assert row.choice == steering.ways[1].choice and not drafters["a"].rows


def test_drafts_that_copy_propose_in_turn_where_the_promise_is_not_kept():
    names = ("x", "y", "z")
    drafters = {"a": Model(), **{name: PromptLookup() for name in names}}
    proposed = []
    for name in names:
        own, real = drafters[name], drafters[name].propose
        own.propose = lambda *given, name=name, real=real: proposed.append(name) or real(*given)
    ways = [way(name, 0.002, watched=True) for name in names]
    row = row_of(drafters, "a", correction(way("a"), *ways, grace=9))
    play(row, [(0, 1)] * 5, range(2, 60))
    assert proposed == []
    play(row, [(0, 4)] * 16, range(2, 60))
    assert len(proposed) >= 6
    assert proposed == [names[place % 3] for place in range(len(proposed))]


def test_one_that_is_too_dear_to_start_keeps_no_other_from_its_turn():
    drafters = {"a": Model(), "dear": PromptLookup(), "cheap": PromptLookup()}
    ways = [way("dear", 50.0, watched=True), way("cheap", 0.002, watched=True)]
    row = row_of(drafters, "a", correction(way("a"), *ways))
    play(row, [(0, 4)] * 9, range(2, 60))
    assert row.pilot is not None
    started = {each.choice.draft: watch.started for each, watch in row.pilot.watches.items()}
    assert started == {"dear": False, "cheap": True}


def test_a_draft_that_copies_rests_watching_and_comes_back_where_the_text_repeats():
    own, drafters = way("copy", 0.002, watched=True), {"copy": PromptLookup()}
    row = row_of(drafters, "copy", correction(own, grace=4))
    play(row, [(0, 4)] * 30, range(2, 40))
    pilot = row.pilot
    assert pilot is not None and pilot.current is None and row.choice is None
    assert pilot.watches[own].started
    plain = row.served[None]
    play(row, [(0, 0)] * 30, (10, 11, 12, 13))
    assert pilot.current == own and row.served[None] < plain + 15


class Copy(Model):
    """Proposes the same token always."""

    def propose(self, rows, k, noise):
        return Proposal(torch.full((1, k[0]), 9), torch.tensor([k[0]]))


def test_a_draft_that_watches_reads_every_token_once_while_it_comes_and_goes():
    drafters = {"a": Model(), "copy": Copy()}
    steering = correction(way("a"), way("copy", 0.002, watched=True), share=1, grace=50)
    row = row_of(drafters, "a", steering)
    pilot = row.pilot
    assert pilot is not None
    for favoured in (1, 2, 2, 0, 2, 1) * 6:
        pilot.hedge.totals = [50.0 * (arm == favoured) for arm in range(3)]
        play(row, [(0, 4), (0, 2)], range(2, 42))
    assert len(row.served) == 3


@pytest.mark.parametrize("text", [3, 500])
def test_where_the_assigned_draft_cannot_pay_or_start_copies_are_scored_all_the_same(text: int):
    # It promises nothing, or its reading of a long text is beyond the budget.
    own = way("a", 0.1) if text == 500 else way("a", 3.0)
    drafters = {"a": Model(), "copy": PromptLookup()}
    steering = correction(own, way("copy", 0.0005, watched=True), grace=2)
    request = Request("0", (5, 6, 7) * (text // 3), 400, draft=DraftChoice("a", 3))
    row = Row(request, 0, frozenset(), 2000)
    row.pilot = steering.pilot(row, drafters)
    row.emit([8])
    play(row, [(0, 0)] * 60, (10, 11, 12, 13))
    assert row.served.get(steering.ways[1].choice, 0) > 20


def test_a_draft_that_did_well_for_long_is_given_up_soon_when_it_fails():
    drafters = {"a": Model()}
    row = row_of(drafters, "a", correction(way("a")))
    play(row, [(0, 0)] * 40, range(2, 40))
    drafted = len(row.steps) - row.served.get(None, 0)
    play(row, [(0, 4)] * 40, range(2, 40))
    assert len(row.steps) - row.served.get(None, 0) - drafted < 20


def test_a_draft_that_is_too_dear_to_take_up_keeps_no_other_from_drafting():
    drafters = {"a": Model(), "b": Model()}
    steering = correction(way("a"), way("b"), grace=2)
    request = Request("0", (5, 6, 7) * 2000, 400, draft=DraftChoice("a", 3))
    row = Row(request, 0, frozenset(), 9000)
    row.pilot = steering.pilot(row, drafters)
    row.emit([8])
    row.start(drafters)
    for _ in range(20):
        assert row.pilot is not None
        row.pilot.hedge.totals = [0.0, 0.0, 50.0]
        play(row, [(0, 1)], range(2, 40))
    assert row.served == {steering.ways[0].choice: 20}


def test_others_promise_no_more_than_the_assigned_draft():
    modest = replace(way("a"), curve=AcceptanceCurve((1.4, 1.5, 1.55, 1.56), (0, 0, 0, 0, 1)))
    pilot = row_of({"a": Model(), "b": Model()}, "a", correction(modest, way("b"))).pilot
    assert pilot is not None
    own, other = pilot.estimates.values()
    assert other.best() == pytest.approx(own.best())


class Silent(Model):
    """Never has anything to propose."""

    def propose(self, rows, k, noise):
        nothing = torch.zeros(len(rows), 0, dtype=torch.int64)
        return Proposal(nothing, torch.zeros(len(rows), dtype=torch.int64))


def test_a_draft_that_may_serve_a_row_in_two_ways_is_with_it_only_once():
    # `Model` fails when it is started twice on a row, or stopped twice.
    own, drafters = way("a", watched=True), {"a": Silent(), "b": Silent()}
    shorter = replace(own, choice=DraftChoice("a", 2))
    row = row_of(drafters, "a", correction(own, shorter, way("b"), grace=30))
    pilot = row.pilot
    assert pilot is not None and pilot.ways[2] == shorter
    for favoured in (1, 3, 2, 0, 3, 1) * 4:
        pilot.hedge.totals = [50.0 * (arm == favoured) for arm in range(4)]
        play(row, [(0, 0)], range(2, 40))
    assert len(row.served) > 2
    row.stop(drafters)
    pilot.stop()
    assert not drafters["a"].rows and not drafters["b"].rows


def test_drafts_that_cannot_move_or_are_drafted_with_do_not_take_over():
    ways = (way("a", members=frozenset({"b"})), way("b"), way("c", movable=False), way("d"))
    drafters: dict[str, Drafter] = {name: Model() for name in "abcd"}
    pilot = row_of(drafters, "a", correction(*ways)).pilot
    assert pilot is not None and [each.choice.draft for each in pilot.ways] == ["a", "d"]
    row = Row(Request("0", (5,), 9, draft=DraftChoice("new", 2)), 0, frozenset(), 99)
    assert correction(*ways).pilot(row, drafters) is None


def test_a_draft_that_reads_states_is_left_but_never_comes_back():
    steering = correction(way("a", movable=False), way("b"), grace=9)
    row = row_of({"a": Model(), "b": Model()}, "a", steering)
    pilot = row.pilot
    assert pilot is not None
    pilot._move(steering.ways[1])
    for _ in range(60):
        pilot.hedge.totals = [0.0, 50.0, 0.0]
        play(row, [(0, 0)], range(2, 40))
    assert row.choice == steering.ways[1].choice and row.served == {None: 60}
