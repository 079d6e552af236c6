"""Walking an answer with a draft, as the engine would."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from taskspec.training.simulation import SimulatedStep, simulate_answer, simulate_batch


def agrees(*places: str) -> list[torch.Tensor]:
    """One text of 1 and 0 per place in a draft."""
    return [torch.tensor([each == "1" for each in place]) for place in places]


def test_a_draft_that_always_agrees_emits_one_more_than_it_drafts() -> None:
    steps = simulate_answer(agrees("1" * 9, "1" * 9), draft_length=2, room=20)
    assert steps == [SimulatedStep(2, 2, 3), SimulatedStep(2, 2, 3), SimulatedStep(2, 2, 2)]


def test_a_draft_that_never_agrees_emits_one_token_a_step() -> None:
    assert simulate_answer(agrees("00000"), 1, room=20) == [SimulatedStep(1, 0, 1)] * 4


def test_each_place_in_a_draft_agrees_for_itself() -> None:
    steps = simulate_answer(agrees("11111", "00000"), draft_length=2, room=20)
    assert steps == [SimulatedStep(2, 1, 2), SimulatedStep(2, 1, 2)]


def test_drafts_get_shorter_where_room_ends() -> None:
    steps = simulate_answer(agrees(*["1111"] * 4), draft_length=4, room=4)
    assert steps == [SimulatedStep(2, 2, 3)]


def test_drafts_that_ended_early_are_walked_as_they_were() -> None:
    steps = simulate_answer(agrees(*["1111111"] * 4), 4, room=20, ended=[0, 2])
    assert steps == [SimulatedStep(0, 0, 1), SimulatedStep(2, 2, 3), SimulatedStep(4, 2, 2)]


def test_an_answer_of_one_token_has_no_step() -> None:
    assert simulate_answer(agrees("1"), 4, room=1) == []


@given(st.lists(st.lists(st.booleans(), min_size=1, max_size=9), min_size=1), st.integers(1, 4))
def test_every_token_but_the_first_is_emitted_once(
    answers: list[list[bool]], draft_length: int
) -> None:
    flat = torch.tensor([bit for answer in answers for bit in answer])
    counts = [len(answer) for answer in answers]
    for answer, steps in zip(
        answers, simulate_batch([flat] * 4, counts, draft_length), strict=True
    ):
        assert sum(step.emitted for step in steps) == len(answer) - 1
        assert all(step.accepted <= min(step.drafted, step.emitted) for step in steps)
