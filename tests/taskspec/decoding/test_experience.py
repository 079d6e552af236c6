"""Answers begin with the draft that did best for others like them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from corrections import GOOD, Model, correction, play, play_within_budget, row_of, way
from hypothesis import given, settings
from hypothesis import strategies as st
from taskspec_drafters.prompt_lookup import PromptLookup

from taskspec.decoding.correction import Correction
from taskspec.decoding.experience import Experience
from taskspec.interfaces import Drafter

REPEATING = (10, 11, 12, 13)
UNLIKE = range(2, 40)


def experienced(*ways: Any, **changes: Any) -> Correction:
    return replace(correction(*ways, **changes), experience=Experience())


def answer(steering: Correction, refused: int, supply: Sequence[int], steps: int = 40) -> Any:
    """An answer in which so many of the drafted tokens are refused at each step."""
    drafters: dict[str, Drafter] = {"a": Model(), "b": Model(), "copy": PromptLookup()}
    row = row_of(drafters, "a", steering, started=False)
    play(row, [(0, refused)] * steps, supply)
    assert row.pilot is not None
    row.stop(drafters)
    row.pilot.stop()
    return row


def test_where_the_draft_asked_for_was_worse_than_another_the_next_answer_begins_with_that() -> (
    None
):
    steering = experienced(way("a"), way("copy", 0.002, watched=True), grace=4)
    first = answer(steering, 4, REPEATING, 80)
    again = answer(steering, 0, REPEATING, 2)
    copy = steering.ways[1].choice
    assert again.served == {copy: 2} and first.served.get(copy, 0) < 80
    unknowing = answer(experienced(*steering.ways, grace=4), 0, REPEATING, 2)
    assert unknowing.served == {steering.ways[0].choice: 2}


def test_a_draft_that_brought_nothing_is_hardly_tried_again() -> None:
    steering = experienced(way("a"))
    unknowing = answer(steering, 4, UNLIKE, 60).served[None]
    knowing = answer(steering, 4, UNLIKE, 60).served[None]
    assert 60 - knowing <= 2 < 60 - unknowing
    assert steering.experience is not None
    steering.experience.forget()
    assert answer(steering, 4, UNLIKE, 60).served[None] == unknowing


def test_what_one_draft_s_prompts_showed_is_not_held_against_another_s() -> None:
    steering = experienced(way("a"), way("b"))
    answer(steering, 4, UNLIKE, 60)
    row = row_of({"a": Model(), "b": Model()}, "b", steering)
    assert row.pilot is not None
    fresh = row_of({"a": Model(), "b": Model()}, "b", correction(*steering.ways)).pilot
    assert fresh is not None
    best = [each.best()[1] for each in row.pilot.estimates.values()]
    assert best == pytest.approx([each.best()[1] for each in fresh.estimates.values()])


def test_where_promises_are_kept_the_draft_that_is_known_least_watches_all_the_same() -> None:
    drafters = {"a": Model(), "x": PromptLookup(), "y": PromptLookup()}
    ways = way("a"), way("x", 0.002, watched=True), way("y", 0.002, watched=True)
    steering = experienced(*ways, grace=9)
    watched = []
    for _ in range(4):
        row = row_of(drafters, "a", steering, started=False)
        play(row, [(0, 0)] * 12, UNLIKE)
        assert row.pilot is not None and row.served == {ways[0].choice: 12}
        watched.append([each.choice.draft for each, w in row.pilot.watches.items() if w.started])
        row.stop(drafters)
        row.pilot.stop()
    assert watched == [["x"], ["y"], ["x"], ["y"]]


@settings(max_examples=60, deadline=None)
@given(
    shown=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 4)), max_size=6),
    outcomes=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=40),
    share=st.floats(0, 0.5),
    grace=st.floats(0, 5),
    own=st.sampled_from(["a", "b", "copy", None]),
    tokens=st.lists(st.integers(2, 5), min_size=1, max_size=9),
)
def test_no_answers_before_make_one_lose_more_than_the_budget(
    shown, outcomes, share, grace, own, tokens
):
    drafters = {"a": Model(), "b": Model(), "copy": PromptLookup()}
    ways = way("a", 0.9), way("b", 0.05, movable=False), way("copy", 0.01, watched=True)
    steering = experienced(*ways, share=share, grace=grace)
    asked = next((each for each in ways if each.choice.draft == own), None)
    for place, accepted in shown:
        known = steering.experience.estimate(asked, ways[place], GOOD, steering.prices)
        for _ in range(30):
            known.learn(4, 4, accepted)
    for _ in range(2):
        row = row_of(drafters, own, steering)
        play_within_budget(row, outcomes, tokens)
        row.stop(drafters)
        row.pilot.stop()
    assert not drafters["a"].rows and not drafters["b"].rows


def test_where_the_draft_asked_for_is_known_to_fail_others_are_tried_that_cannot_watch() -> None:
    steering = experienced(way("a"), way("b"), grace=9)
    served: set[str] = set()
    for _ in range(12):
        drafters: dict[str, Drafter] = {"a": Model(), "b": Model()}
        row = row_of(drafters, "a", steering, started=False)
        for _ in range(60):
            good = row.choice is not None and row.choice.draft == "b"
            play(row, [(0, 0 if good else 4)], UNLIKE)
        served |= {each.draft for each in row.served if each is not None}
        last = row.served
        row.stop(drafters)
    assert served == {"a", "b"}
    assert last.get(steering.ways[1].choice, 0) > 50, "and what was found is kept"
