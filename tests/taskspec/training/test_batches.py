"""Stored answers as batches: what stands where, and what is trained."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from taskspec.corpus.answers import StoredAnswer, TopTokens
from taskspec.training.batches import (
    Segment,
    make_batch,
    make_packed_batch,
    pack_texts,
    segments_of,
    split_texts,
)
from taskspec.training.teacher import StoredTeacherSignal, TopKTeacherSignal

HEAD = torch.nn.Identity()
MakeAnswers = Callable[..., list[StoredAnswer]]
texts_strategy = st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=4)


def test_trained_positions_predict_exactly_the_answers(made_answers: MakeAnswers) -> None:
    answers = made_answers()
    made = make_batch(answers, HEAD)
    for row, answer in enumerate(answers):
        text = (*answer.prompt_ids, *answer.answer_ids)
        assert made.batch.tokens[row, : len(text) - 1].tolist() == list(text[:-1])
        predicted = [text[place + 1] for place in made.batch.trained[row].nonzero()[:, 0].tolist()]
        assert predicted == list(answer.answer_ids)


@pytest.mark.parametrize("rows", [[1, 1, 1, 1, 1, 1, 1], [3, 1, 2, 1], [7]])
def test_the_teacher_stands_at_the_trained_positions_in_their_order(
    made_answers: MakeAnswers, rows: list[int]
) -> None:
    answers = made_answers()
    left = iter(answers)
    made = make_packed_batch([[next(left) for _ in range(count)] for count in rows], HEAD)
    expected = [token for answer in answers for token in answer.answer_ids]
    assert int(made.batch.trained.sum()) == len(expected)
    assert isinstance(made.teacher, StoredTeacherSignal)
    assert made.tokens.tolist() == made.teacher.tokens.tolist() == expected
    assert made.teacher.hidden[:, 0].tolist() == expected
    assert made.teacher.log_normalizer.tolist() == [-token for token in expected]


def test_only_padding_has_segment_minus_one(made_answers: MakeAnswers) -> None:
    answers = made_answers()
    batch = make_batch(answers, HEAD).batch
    for row, answer in enumerate(answers):
        size = len(answer.prompt_ids) + len(answer.answer_ids) - 1
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


def test_answers_without_the_signal_that_others_have_are_named(
    made_answers: MakeAnswers,
) -> None:
    unlit = StoredAnswer("unlit", (1,), (2,), True)
    with pytest.raises(ValueError, match="answer unlit"):
        make_batch([*made_answers(), unlit], HEAD)


def test_packed_texts_are_segments_with_positions_of_their_own() -> None:
    batch = pack_texts([[([5, 6], [7, 8]), ([9], [10])], [([11, 12, 13], [14])]])
    assert batch.tokens.tolist() == [[5, 6, 7, 9], [11, 12, 13, 0]]
    assert batch.positions.tolist()[0] == [0, 1, 2, 0]
    assert batch.segments.tolist() == [[0, 0, 0, 1], [0, 0, 0, -1]]
    assert batch.trained.tolist() == [[False, True, True, True], [False, False, True, False]]
    assert segments_of(batch) == [Segment(0, 0, 3), Segment(0, 3, 4), Segment(1, 0, 3)]


@settings(deadline=None)
@given(st.lists(texts_strategy, min_size=1, max_size=4))
def test_a_batch_gives_its_prompts_back(rows: list[list[tuple[int, int]]]) -> None:
    texts = [[([1] * prompt, [2] * answer) for prompt, answer in row] for row in rows]
    expected = [[(prompt, len(answer)) for prompt, answer in row] for row in texts]
    assert split_texts(pack_texts(texts)) == expected
