"""Plans of batches: every answer in its turn, little padding, the budget met."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskspec.corpus.answers import StoredAnswer
from taskspec.training.packing import answer_tokens, padding_share, plan_batches, sequence_length

MakeAnswers = Callable[..., list[StoredAnswer]]
Lengths = list[tuple[int, int]]
lengths_strategy = st.lists(st.tuples(st.integers(1, 20), st.integers(1, 20)), min_size=1)


@settings(deadline=None)
@given(lengths_strategy, st.integers(1, 500), st.integers(1, 500), st.integers(0, 9))
def test_the_plan_of_a_smaller_budget_is_a_prefix(
    made_answers: MakeAnswers, lengths: Lengths, one: int, other: int, seed: int
) -> None:
    answers = made_answers(lengths)
    small = plan_batches(answers, 48, min(one, other), seed)
    large = plan_batches(answers, 48, max(one, other), seed)
    assert large[: len(small)] == small


@settings(deadline=None)
@given(lengths_strategy, st.integers(1, 500))
def test_the_budget_is_reached_with_the_last_batch(
    made_answers: MakeAnswers, lengths: Lengths, budget: int
) -> None:
    answers = made_answers(lengths)
    counts = [answer_tokens(answers, rows) for rows in plan_batches(answers, 48, budget, seed=0)]
    assert sum(counts) >= budget > sum(counts[:-1])


@settings(deadline=None)
@given(lengths_strategy, st.integers(1, 3), st.integers(0, 9))
def test_every_answer_comes_once_per_epoch(
    made_answers: MakeAnswers, lengths: Lengths, epochs: int, seed: int
) -> None:
    answers = made_answers(lengths)
    everything = sum(len(answer.answer_ids) for answer in answers)
    plan = plan_batches(answers, 48, epochs * everything, seed)
    order = [index for rows in plan for row in rows for index in row]
    for start in range(0, len(order), len(answers)):
        assert sorted(order[start : start + len(answers)]) == list(range(len(answers)))
    assert len(order) == epochs * len(answers)


@settings(deadline=None)
@given(lengths_strategy, st.integers(1, 200))
def test_batches_keep_to_their_tokens_unless_one_answer_exceeds_them(
    made_answers: MakeAnswers, lengths: Lengths, batch_tokens: int
) -> None:
    answers = made_answers(lengths)
    for rows in plan_batches(answers, batch_tokens, 300, seed=0):
        width = max(sum(sequence_length(answers[index]) for index in row) for row in rows)
        assert len(rows) * width <= batch_tokens or [len(row) for row in rows] == [1]


def test_answers_of_one_length_stand_in_rows_of_their_own(made_answers: MakeAnswers) -> None:
    plan = plan_batches(made_answers([(5, 4)] * 12), 32, 100, seed=0)
    assert all(len(row) == 1 for rows in plan for row in rows)


@pytest.mark.parametrize("batch_tokens", [1024, 8192])
@pytest.mark.parametrize("longest", [150, 700])
def test_padding_stays_below_a_twentieth(
    made_answers: MakeAnswers, batch_tokens: int, longest: int
) -> None:
    generator = random.Random(0)
    lengths = [(generator.randint(10, longest), generator.randint(8, 64)) for _ in range(500)]
    answers = made_answers(lengths)
    assert padding_share(answers, plan_batches(answers, batch_tokens, 60_000, seed=0)) < 0.05


def test_the_seed_decides_the_order(made_answers: MakeAnswers) -> None:
    answers = made_answers([(3, 4), (1, 6), (5, 1), (2, 2), (8, 3), (4, 4), (1, 1)] * 3)
    assert plan_batches(answers, 32, 200, seed=1) == plan_batches(answers, 32, 200, seed=1)
    assert plan_batches(answers, 32, 200, seed=1) != plan_batches(answers, 32, 200, seed=2)
