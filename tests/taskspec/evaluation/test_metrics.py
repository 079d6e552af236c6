"""The measures of metrics.md, on steps counted by hand."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskspec.decoding.records import StepRecord
from taskspec.evaluation.metrics import (
    acceptance_rate,
    block_efficiency,
    draft_accuracy,
    position_acceptance,
)


def step(drafted: int, accepted: int) -> StepRecord:
    """A step that nothing cut: the accepted tokens and one correction or bonus token."""
    return StepRecord(drafted, accepted, accepted + 1)


PLAIN = [StepRecord(0, 0, 1)] * 5
STEPS = [step(4, 4), step(4, 0), step(4, 1), step(4, 3)]


def test_block_efficiency_counts_corrections_and_bonus_tokens() -> None:
    assert block_efficiency(STEPS) == (5 + 1 + 2 + 4) / 4
    assert block_efficiency(PLAIN) == 1


def test_block_efficiency_counts_only_what_a_cut_step_emitted() -> None:
    ended_inside_the_draft = StepRecord(drafted=4, accepted=2, emitted=2)
    assert block_efficiency([step(4, 4), ended_inside_the_draft]) == 3.5


def test_acceptance_rate_is_accepted_over_drafted() -> None:
    assert acceptance_rate(STEPS) == 8 / 16
    assert acceptance_rate([step(4, 1), step(1, 1), step(0, 0)]) == 2 / 5


def test_acceptance_of_a_position_counts_steps_that_drafted_so_far() -> None:
    assert position_acceptance(STEPS) == (3 / 4, 2 / 4, 2 / 4, 1 / 4)
    assert position_acceptance([step(1, 1), step(3, 1), step(0, 0), step(3, 3)]) == (1, 0.5, 0.5)


def test_draft_accuracy_is_the_acceptance_of_the_first_token() -> None:
    assert draft_accuracy(STEPS) == 3 / 4
    assert draft_accuracy([*STEPS, step(0, 0)]) == 3 / 4


def test_what_was_not_measured_is_none() -> None:
    assert block_efficiency([]) is None
    for steps in ([], PLAIN):
        assert acceptance_rate(steps) is None
        assert draft_accuracy(steps) is None
        assert position_acceptance(steps) == ()


@settings(deadline=None)
@given(
    st.integers(1, 6).flatmap(
        lambda k: st.lists(st.builds(step, st.just(k), st.integers(0, k)), min_size=1)
    )
)
def test_block_efficiency_is_one_plus_the_acceptances_at_a_fixed_length(
    steps: list[StepRecord],
) -> None:
    assert block_efficiency(steps) == pytest.approx(1 + sum(position_acceptance(steps)))
