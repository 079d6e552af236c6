"""Loaders: batches in order, from where a checkpoint stands, shared out between processes."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from taskspec.corpus.answers import StoredAnswer
from taskspec.training.data import AlignmentData, BatchLoader
from taskspec.training.packing import plan_batches

HEAD = torch.nn.Identity()
MakeAnswers = Callable[..., list[StoredAnswer]]


def test_a_loader_numbers_its_batches_from_start_to_end(made_answers: MakeAnswers) -> None:
    answers = made_answers()
    made = list(BatchLoader(answers, plan_batches(answers, 24, 60, seed=0), HEAD))
    assert [each.step for each in made] == list(range(len(made)))
    assert made[0].progress == 0 and made[-1].progress == 1
    steps = [after.progress - before.progress for before, after in pairwise(made)]
    assert steps == pytest.approx([steps[0]] * len(steps))


@pytest.mark.parametrize("consumed", [0, 1, 3])
def test_a_loader_continues_where_its_state_was_taken(
    made_answers: MakeAnswers, consumed: int
) -> None:
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


def in_process(data: AlignmentData, rank: int, world: int, accumulated: int = 1) -> AlignmentData:
    """The data as one of several processes sees it."""
    untyped: Any = data
    untyped.trainer = SimpleNamespace(
        global_rank=rank, world_size=world, accumulate_grad_batches=accumulated
    )
    return data


@settings(deadline=None)
@given(st.integers(1, 400), st.integers(2, 3))
def test_processes_share_the_plan_out_evenly(
    made_answers: MakeAnswers, budget: int, world: int
) -> None:
    data = AlignmentData(made_answers(), [], HEAD, batch_tokens=16, tokens=budget, seed=0)
    shares = [in_process(data, rank, world).train_dataloader().plan for rank in range(world)]
    assert len({len(share) for share in shares}) == 1, "a process without a batch waits for ever"
    in_turn = [batch for turn in zip(*shares, strict=True) for batch in turn]
    assert in_turn[: len(data.plan)] == data.plan
    assert len(in_turn) - len(data.plan) < world
    for turns in range(len(shares[0]) + 1):
        done = data.done(turns, world)
        assert done == in_turn[: len(done)] and len(done) == min(turns * world, len(data.plan))


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 200), st.integers(1, 3), st.integers(1, 4))
def test_every_answer_token_of_a_step_counts_alike(
    made_answers: MakeAnswers, budget: int, world: int, accumulated: int
) -> None:
    """Lightning divides a step's losses by its batches, the last one's by as many."""
    data = AlignmentData(made_answers(), [], HEAD, batch_tokens=16, tokens=budget, seed=0)
    shares = [
        list(in_process(data, r, world, accumulated).train_dataloader()) for r in range(world)
    ]
    for first in range(0, len(shares[0]), accumulated):
        step = [made for share in shares for made in share[first : first + accumulated]]
        tokens = sum(len(made.tokens) for made in step if made.weight)
        for made in step:
            share = made.weight / (world * accumulated)
            assert made.weight == 0 or share == pytest.approx(len(made.tokens) / tokens)
    counted = [made for share in shares for made in share if made.weight]
    assert len(counted) == len(data.plan), "what fills the last turn counts for nothing"
    assert world * accumulated > 1 or {made.weight for made in counted} == {1.0}


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 7), st.integers(1, 4))
def test_held_out_answers_count_once_in_all_processes_together(
    made_answers: MakeAnswers, count: int, world: int
) -> None:
    held_out = made_answers()[:count]
    data = AlignmentData(made_answers(), held_out, HEAD, batch_tokens=16, tokens=60, seed=0)
    shares = [list(in_process(data, rank, world).val_dataloader()) for rank in range(world)]
    assert len({len(share) for share in shares}) == 1, "a process without a batch waits for ever"
    counted = [token for share in shares for made in share if made.weight for token in made.tokens]
    assert sorted(map(int, counted)) == [t for answer in held_out for t in answer.answer_ids]
    assert {made.weight for share in shares for made in share} <= {0.0, 1.0}


@settings(deadline=None)
@given(st.integers(1, 200), st.integers(1, 200))
def test_a_training_in_two_parts_has_the_batches_of_one(
    made_answers: MakeAnswers, first: int, more: int
) -> None:
    answers = made_answers()

    def plan(tokens: int, before: int = 0) -> list[object]:
        return list(AlignmentData(answers, [], HEAD, 16, tokens, 0, before).plan)

    begun, whole, rest = plan(first), plan(first + more), plan(more, first)
    if begun == whole:
        assert rest == whole[-1:], "there is always something to train on"
    else:
        assert begun + rest == whole
