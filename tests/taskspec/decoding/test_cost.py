"""Reading off one measurement what every draft length promises."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from taskspec_drafters.prompt_lookup import PromptLookup
from taskspec_verifiers.greedy import Greedy

from taskspec.decoding.cached_model import CachedModel
from taskspec.decoding.cost import (
    AcceptanceCurve,
    TargetCost,
    acceptance_curve,
    best_length,
    mean_curve,
    measure_draft,
    measure_target,
)
from taskspec.decoding.engine import Engine
from taskspec.decoding.records import DraftChoice, Request, StepRecord
from taskspec.interfaces import Sampling

COST = TargetCost(seconds=(0.10, 0.11, 0.13, 0.16))


def test_shorter_drafts_accept_as_much_as_fits() -> None:
    steps = {
        "a": (StepRecord(3, 3, 4), StepRecord(3, 0, 1)),
        "b": (StepRecord(3, 1, 2), StepRecord(3, 2, 3)),
    }
    found = acceptance_curve(steps, longest=3)
    assert found == AcceptanceCurve(
        block_efficiency=(1 + 3 / 4, 1 + 5 / 4, 1 + 6 / 4),
        drafted=(0, 0, 0, 1),
    )


@pytest.mark.parametrize("k", [1, 2, 3])
def test_a_short_curve_is_the_beginning_of_a_long_one(k: int) -> None:
    steps = {"a": (StepRecord(3, 3, 4), StepRecord(2, 0, 1), StepRecord(0, 0, 1))}
    whole = acceptance_curve(steps, 3)
    assert whole is not None and acceptance_curve(steps, k) == whole.up_to(k)


def test_steps_that_drafted_less_cost_less() -> None:
    found = acceptance_curve({"a": (StepRecord(3, 1, 2), StepRecord(0, 0, 1))}, 3)
    assert found is not None
    assert [found.mean_drafted(k) for k in (1, 2, 3)] == [0.5, 1, 1.5]
    # Finding out that there is nothing to draft is an attempt, too.
    assert [found.mean_attempts(k) for k in (1, 2, 3)] == [1, 1.5, 2]
    assert found.block_efficiency == (1.5, 1.5, 1.5)


def test_steps_that_the_end_of_an_answer_cut_are_left_out() -> None:
    whole, cut = StepRecord(3, 1, 2), StepRecord(3, 3, 3)
    assert acceptance_curve({"a": (whole, cut)}, 3) == acceptance_curve({"a": (whole,)}, 3)


@pytest.mark.parametrize("steps", [{}, {"a": ()}, {"a": (StepRecord(3, 3, 3),)}])
def test_without_whole_steps_nothing_is_promised(steps: dict[str, tuple[StepRecord, ...]]) -> None:
    assert acceptance_curve(steps, 3) is None


def test_the_predicted_speedup_weighs_tokens_against_drafting_and_verifying() -> None:
    drafted = AcceptanceCurve((1.8, 2.4), (0, 0, 1))
    # k c + v(k + 1) + o: a draft token costs 0.2 of a target pass, two tokens verify in 1.1.
    assert drafted.speedup(1, 0.02, COST, 0.1) == pytest.approx(1.8 / (0.2 + 1.1 + 0.1))
    assert drafted.speedup(2, 0.02, COST, 0.0) == pytest.approx(2.4 / (0.4 + 1.3))


def test_every_step_verifies_at_the_cost_of_what_it_drafted_itself() -> None:
    # Half of the steps draft nothing, half two tokens: one token's price is never paid.
    drafted = AcceptanceCurve((1.5, 1.5), (0.5, 0, 0.5))
    assert drafted.speedup(1, 0.0, COST, 0.0) == pytest.approx(1.5 / ((1 + 1.1) / 2))
    assert drafted.speedup(2, 0.0, COST, 0.0) == pytest.approx(1.5 / ((1 + 1.3) / 2))


def test_a_pass_longer_than_any_timed_costs_as_much_a_token_as_the_longest() -> None:
    assert COST.verify_ratio(8) == pytest.approx(2 * COST.verify_ratio(4))
    assert COST.verify_ratio(6) > COST.verify_ratio(5) > COST.verify_ratio(4)


def test_a_draft_that_proposes_nothing_promises_plain_speed_less_its_attempts() -> None:
    curve = acceptance_curve({"a": (StepRecord(0, 0, 1),)}, 3)
    assert curve is not None
    assert [curve.speedup(k, 0.0, COST, 0.0) for k in (1, 2, 3)] == [1, 1, 1]
    assert curve.speedup(3, 0.02, COST, 0.0) == pytest.approx(1 / 1.2)


def test_of_lengths_that_promise_as_much_the_shortest_is_best() -> None:
    assert best_length({1: 1.2, 2: 1.39, 3: 1.40, 4: 1.41, 6: 1.30}) == 2
    assert best_length({8: 1.5, 1: 1.0}) == 8


def test_tasks_that_share_a_draft_share_its_mean_over_the_lengths_all_have() -> None:
    sure = AcceptanceCurve((1.8, 2.4), (0, 0, 1))
    unsure = AcceptanceCurve((1.2, 1.4, 1.5), (0.5, 0, 0.25, 0.25))
    mean = mean_curve([sure, unsure])
    assert mean == AcceptanceCurve((1.5, 1.9), (0.25, 0, 0.75))


def test_a_curve_within_another_adds_no_more_at_any_place() -> None:
    high = AcceptanceCurve((1.9, 2.2, 2.4), (0, 0.5, 0, 0.5))
    found = high.within(AcceptanceCurve((1.5, 1.9), (0, 0, 1)))
    assert found.block_efficiency == pytest.approx((1.5, 1.8, 2.0))
    assert found.drafted == high.drafted
    assert high.within(high).block_efficiency == pytest.approx(high.block_efficiency)


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(temperature=0.7, top_p=0.9)])
def test_a_draft_is_timed_as_it_will_draft(llama, sampling) -> None:
    class Noted(PromptLookup):
        def start(self, row, prompt, sampling, hidden=None, adapter=None):
            super().start(row, prompt, sampling, hidden, adapter)
            self.sampling, self.noise = sampling, []

        def propose(self, rows, k, noise):
            self.noise.append(noise)
            return super().propose(rows, k, noise)

    drafter = Noted()
    assert measure_draft(drafter, DraftChoice("d", 3), llama, (1, 2, 1, 2), sampling, 4) > 0
    noise = torch.cat(drafter.noise)
    assert drafter.sampling == sampling and noise.shape == (5, 3)
    assert (noise.unique().numel() == 1) == sampling.greedy


def test_passes_of_every_width_get_a_cost_and_leave_the_cache_empty(llama) -> None:
    model = CachedModel(llama.model, llama.head)
    cost = measure_target(model, (1, 2, 3), 40, llama.context_length, repeats=2)
    assert len(cost.seconds) == 40 and min(cost.seconds) > 0 and model.length(0) == 0
    # Between 16 and 24 tokens nothing is timed.
    steps = [b - a for a, b in itertools.pairwise(cost.seconds[15:24])]
    assert steps == pytest.approx([steps[0]] * 8)


@given(st.lists(st.integers(0, 9), min_size=2, max_size=10), st.integers(0, 12))
def test_means_are_over_steps_that_end_early_too(counts: list[int], k: int) -> None:
    """`counts[d]` steps drafted d tokens where nothing but the draft ended them."""
    steps = [drafted for drafted, count in enumerate(counts) for _ in range(count)]
    total = max(1, len(steps))
    curve = AcceptanceCurve((1.0,) * (len(counts) - 1), tuple(n / total for n in counts))
    drafted = sum(min(each, k) for each in steps) / total
    attempts = sum(min(each + 1, k) for each in steps) / total
    assert curve.mean_drafted(k) == pytest.approx(drafted)
    assert curve.mean_attempts(k) == pytest.approx(attempts)


@pytest.mark.parametrize("passes", [1, 4])
def test_what_breaks_a_measurement_leaves_nothing_for_answers(llama, monkeypatch, passes) -> None:
    engine = Engine(llama, Greedy(), prefixes=[(5, 6, 7)])
    asked = [Request("a", (5, 6, 7, 8), 6)]
    plain = Engine(llama, Greedy()).generate(asked)[0].tokens
    head, calls = engine.model.head, itertools.count(1)

    def interrupted(hidden):
        if next(calls) == passes:
            raise KeyboardInterrupt
        return head(hidden)

    monkeypatch.setattr(engine.model, "head", interrupted)
    with pytest.raises(KeyboardInterrupt):
        measure_target(engine.model, range(9, 15), 4, llama.context_length)
    monkeypatch.setattr(engine.model, "head", head)
    assert engine.model.length(0) == 0
    # Nor what anyone else left in a row.
    engine.model.forward([0], torch.tensor([[9, 9]]))
    assert engine.generate(asked)[0].tokens == plain


def test_what_breaks_a_draft_s_measurement_stops_its_row(llama) -> None:
    class Breaking(PromptLookup):
        def propose(self, rows, k, noise):
            raise KeyboardInterrupt

    drafter = Breaking()
    with pytest.raises(KeyboardInterrupt):
        measure_draft(drafter, DraftChoice("d", 3), llama, (1, 2, 1, 2))
    assert not drafter._rows
