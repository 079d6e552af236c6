"""Stored answers as batches: which, in what order, and what is trained in them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from taskspec.corpus.answers import StoredAnswer, TopTokens
from taskspec.training.data import (
    AlignmentData,
    BatchLoader,
    make_batch,
    pad_texts,
    plan_batches,
    split_texts,
)
from taskspec.training.teacher import StoredTeacherSignal, TopKTeacherSignal

HEAD = torch.nn.Identity()
LENGTHS = ((3, 4), (1, 6), (5, 1), (2, 2), (8, 3), (4, 4), (1, 1))
lengths_strategy = st.lists(st.tuples(st.integers(1, 20), st.integers(1, 20)), min_size=1)


def made_answers(lengths: Sequence[tuple[int, int]] = LENGTHS) -> list[StoredAnswer]:
    """Answers of (prompt, answer) lengths; no two token positions share an id or a state."""
    answers, first = [], 1
    for prompt, answer in lengths:
        ids = tuple(range(first, first + prompt + answer))
        state = torch.tensor(ids[prompt:], dtype=torch.float32)
        answers.append(
            StoredAnswer(str(first), ids[:prompt], ids[prompt:], True, state[:, None], -state)
        )
        first += prompt + answer
    return answers


def answer_tokens(answers: Sequence[StoredAnswer], plan: Sequence[Sequence[int]]) -> int:
    return sum(len(answers[index].answer_ids) for batch in plan for index in batch)


@settings(deadline=None)
@given(lengths_strategy, st.integers(1, 500), st.integers(1, 500), st.integers(0, 9))
def test_the_plan_of_a_smaller_budget_is_a_prefix(
    lengths: list[tuple[int, int]], one: int, other: int, seed: int
) -> None:
    answers = made_answers(lengths)
    small = plan_batches(answers, 48, min(one, other), seed)
    large = plan_batches(answers, 48, max(one, other), seed)
    assert large[: len(small)] == small


@settings(deadline=None)
@given(lengths_strategy, st.integers(1, 500))
def test_the_budget_is_reached_with_the_last_batch(
    lengths: list[tuple[int, int]], budget: int
) -> None:
    answers = made_answers(lengths)
    plan = plan_batches(answers, 48, budget, seed=0)
    assert answer_tokens(answers, plan) >= budget > answer_tokens(answers, plan[:-1])


@settings(deadline=None)
@given(lengths_strategy, st.integers(1, 3), st.integers(0, 9))
def test_every_answer_comes_once_per_epoch(
    lengths: list[tuple[int, int]], epochs: int, seed: int
) -> None:
    answers = made_answers(lengths)
    everything = sum(len(answer.answer_ids) for answer in answers)
    plan = plan_batches(answers, 48, epochs * everything, seed)
    order = [index for batch in plan for index in batch]
    for start in range(0, len(order), len(answers)):
        assert sorted(order[start : start + len(answers)]) == list(range(len(answers)))
    assert len(order) == epochs * len(answers)


@settings(deadline=None)
@given(lengths_strategy, st.integers(1, 200))
def test_batches_keep_to_their_tokens_unless_one_answer_exceeds_them(
    lengths: list[tuple[int, int]], batch_tokens: int
) -> None:
    answers = made_answers(lengths)
    for chosen in plan_batches(answers, batch_tokens, 300, seed=0):
        size = make_batch([answers[index] for index in chosen], HEAD).batch.tokens.numel()
        assert size <= batch_tokens or len(chosen) == 1


def test_the_seed_decides_the_order() -> None:
    answers = made_answers(LENGTHS * 3)
    assert plan_batches(answers, 32, 200, seed=1) == plan_batches(answers, 32, 200, seed=1)
    assert plan_batches(answers, 32, 200, seed=1) != plan_batches(answers, 32, 200, seed=2)


def test_trained_positions_predict_exactly_the_answers() -> None:
    answers = made_answers()
    made = make_batch(answers, HEAD)
    for row, answer in enumerate(answers):
        text = (*answer.prompt_ids, *answer.answer_ids)
        assert made.batch.tokens[row, : len(text) - 1].tolist() == list(text[:-1])
        predicted = [text[place + 1] for place in made.batch.trained[row].nonzero()[:, 0].tolist()]
        assert predicted == list(answer.answer_ids)


def test_the_teacher_stands_at_the_trained_positions_in_their_order() -> None:
    answers = made_answers()
    made = make_batch(answers, HEAD)
    expected = [token for answer in answers for token in answer.answer_ids]
    assert int(made.batch.trained.sum()) == len(expected)
    assert isinstance(made.teacher, StoredTeacherSignal)
    assert made.tokens.tolist() == made.teacher.tokens.tolist() == expected
    assert made.teacher.hidden[:, 0].tolist() == expected
    assert made.teacher.log_normalizer.tolist() == [-token for token in expected]


def test_only_padding_has_segment_minus_one() -> None:
    answers = made_answers()
    batch = make_batch(answers, HEAD).batch
    for row, (prompt, answer) in enumerate(LENGTHS):
        size = prompt + answer - 1
        assert (batch.segments[row, :size] >= 0).all() and (batch.segments[row, size:] == -1).all()
        assert batch.positions[row, :size].tolist() == list(range(size))
    assert not batch.trained[batch.segments == -1].any()


def test_likely_tokens_stand_at_the_trained_positions_in_their_order() -> None:
    answers = [
        StoredAnswer(
            str(first),
            (first,),
            tuple(range(first, first + count)),
            True,
            top=TopTokens(
                torch.arange(first, first + count, dtype=torch.int32)[:, None],
                -torch.ones(count, 1),
                torch.full((count,), 0.5),
                vocabulary_size=50,
            ),
        )
        for first, count in ((3, 4), (20, 1), (30, 6))
    ]
    made = make_batch(answers, HEAD)
    assert isinstance(made.teacher, TopKTeacherSignal)
    assert made.teacher.top.ids[:, 0].tolist() == made.teacher.tokens.tolist()
    assert made.teacher.log_probs(None).shape == (11, 50)


def test_nothing_stored_of_the_target_is_nothing_to_show() -> None:
    made = make_batch([StoredAnswer("unlit", (1,), (2, 3), True)], HEAD)
    assert made.teacher is None and made.tokens.tolist() == [2, 3]


def test_answers_without_the_signal_that_others_have_are_named() -> None:
    unlit = StoredAnswer("unlit", (1,), (2,), True)
    with pytest.raises(ValueError, match="answer unlit"):
        make_batch([*made_answers(), unlit], HEAD)


@settings(deadline=None)
@given(lengths_strategy)
def test_a_padded_batch_gives_its_prompts_back(lengths: list[tuple[int, int]]) -> None:
    answers = made_answers(lengths)
    prompts, texts = [a.prompt_ids for a in answers], [a.answer_ids for a in answers]
    found, counts = split_texts(pad_texts(prompts, texts))
    assert [tuple(prompt) for prompt in found] == prompts
    assert counts == [len(text) for text in texts]


def test_a_loader_numbers_its_batches_from_start_to_end() -> None:
    answers = made_answers()
    made = list(BatchLoader(answers, plan_batches(answers, 24, 60, seed=0), HEAD))
    assert [each.step for each in made] == list(range(len(made)))
    assert made[0].progress == 0 and made[-1].progress == 1
    steps = [after.progress - before.progress for before, after in pairwise(made)]
    assert steps == pytest.approx([steps[0]] * len(steps))


@pytest.mark.parametrize("consumed", [0, 1, 3])
def test_a_loader_continues_where_its_state_was_taken(consumed: int) -> None:
    answers = made_answers()
    plan = plan_batches(answers, 24, 60, seed=0)
    loader = BatchLoader(answers, plan, HEAD)
    batches = iter(loader)
    for _ in range(consumed):
        next(batches)
    state = loader.state_dict()
    rest = [(made.step, made.progress, made.tokens.tolist()) for made in batches]

    restored = BatchLoader(answers, plan, HEAD)
    restored.load_state_dict(state)
    assert [(made.step, made.progress, made.tokens.tolist()) for made in restored] == rest
    assert len(rest) == len(plan) - consumed


@settings(deadline=None)
@given(st.integers(1, 400), st.integers(2, 3))
def test_processes_share_the_plan_out_evenly(budget: int, world: int) -> None:
    data = AlignmentData(made_answers(), HEAD, batch_tokens=16, tokens=budget, seed=0)
    untyped: Any = data
    shares = []
    for rank in range(world):
        untyped.trainer = SimpleNamespace(global_rank=rank, world_size=world)
        shares.append(data.train_dataloader().plan)
    assert len({len(share) for share in shares}) == 1, "a process without a batch waits for ever"
    in_turn = [batch for turn in zip(*shares, strict=True) for batch in turn]
    assert in_turn[: len(data.plan)] == data.plan
    assert len(in_turn) - len(data.plan) < world
