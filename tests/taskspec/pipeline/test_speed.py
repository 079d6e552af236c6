"""Reading off one measurement what every draft length promises."""

from __future__ import annotations

import pytest

from taskspec.decoding.cost import TargetCost
from taskspec.decoding.records import StepRecord
from taskspec.pipeline.speed import DraftProfile, profile

COST = TargetCost(seconds=(0.10, 0.11, 0.13, 0.16))


def test_shorter_drafts_accept_as_much_as_fits() -> None:
    steps = {
        "a": (StepRecord(3, 3, 4), StepRecord(3, 0, 1)),
        "b": (StepRecord(3, 1, 2), StepRecord(3, 2, 3)),
    }
    found = profile(steps, longest=3, draft_seconds=0.02)
    assert found == DraftProfile(
        block_efficiency=(1 + 3 / 4, 1 + 5 / 4, 1 + 6 / 4),
        mean_drafted=(1, 2, 3),
        mean_attempts=(1, 2, 3),
        draft_seconds=0.02,
    )


def test_steps_that_drafted_less_cost_less() -> None:
    found = profile({"a": (StepRecord(3, 1, 2), StepRecord(0, 0, 1))}, 3, 0.02)
    assert found is not None
    assert found.mean_drafted == (0.5, 1, 1.5)
    # Finding out that there is nothing to draft is an attempt, too.
    assert found.mean_attempts == (1, 1.5, 2)
    assert found.block_efficiency == (1.5, 1.5, 1.5)


def test_steps_that_the_end_of_an_answer_cut_are_left_out() -> None:
    whole, cut = StepRecord(3, 1, 2), StepRecord(3, 3, 3)
    assert profile({"a": (whole, cut)}, 3, 0.02) == profile({"a": (whole,)}, 3, 0.02)


@pytest.mark.parametrize("steps", [{}, {"a": ()}, {"a": (StepRecord(3, 3, 3),)}])
def test_without_whole_steps_nothing_is_promised(steps: dict[str, tuple[StepRecord, ...]]) -> None:
    assert profile(steps, 3, 0.02) is None


def test_the_predicted_speedup_weighs_tokens_against_drafting_and_verifying() -> None:
    drafted = DraftProfile((1.8, 2.4), (1.0, 2.0), (1.0, 2.0), draft_seconds=0.02)
    # k c + v(k + 1) + o: a draft token costs 0.2 of a target pass, two tokens verify in 1.1.
    assert drafted.predicted_speedup(1, COST, 0.1) == pytest.approx(1.8 / (0.2 + 1.1 + 0.1))
    assert drafted.predicted_speedup(2, COST, 0.0) == pytest.approx(2.4 / (0.4 + 1.3))


def test_verifying_is_interpolated_between_whole_numbers_of_drafted_tokens() -> None:
    drafted = DraftProfile((1.5, 1.5), (0.5, 1.5), (0.5, 1.5), draft_seconds=0.02)
    assert drafted.predicted_speedup(1, COST, 0.0) == pytest.approx(1.5 / (0.1 + 1.05))
    assert drafted.predicted_speedup(2, COST, 0.0) == pytest.approx(1.5 / (0.3 + 1.2))


def test_a_draft_that_proposes_nothing_promises_plain_speed_less_its_attempts() -> None:
    steps = {"a": (StepRecord(0, 0, 1),)}
    free, dear = profile(steps, 3, 0.0), profile(steps, 3, 0.02)
    assert free is not None and dear is not None
    assert [free.predicted_speedup(k, COST, 0.0) for k in (1, 2, 3)] == [1, 1, 1]
    assert dear.predicted_speedup(3, COST, 0.0) == pytest.approx(1 / 1.2)
