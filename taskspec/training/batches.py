"""Texts as training batches, with what is stored of the target."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor

from taskspec.corpus.answers import StoredAnswer, TopTokens
from taskspec.interfaces import TrainingBatch
from taskspec.training.teacher import Head, StoredTeacherSignal, TopKTeacherSignal

_T = TypeVar("_T")
Text = tuple[Sequence[int], Sequence[int]]
"""Token ids of a prompt and of what follows it."""


@dataclass(frozen=True)
class AlignmentBatch:
    """A training batch with the target's view of it.

    Attributes:
        batch: Token sequences.
        tokens: int64 [M], the answer token after each trained position, in their order.
        teacher: The target at the trained positions; None when nothing was stored of it.
        step: Number of the batch within its process's training.
        progress: How much of that training is done, from 0 at the first batch to 1 at the last.
        real_tokens: Tokens that are no padding.
        weight: What its loss counts for beside the others of its step; 0 for a batch that is only
            there so that every process has one.
    """

    batch: TrainingBatch
    tokens: Tensor
    teacher: StoredTeacherSignal | TopKTeacherSignal | None
    step: int = 0
    progress: float = 0.0
    real_tokens: int = 0
    weight: float = 1.0

    def to(self, device: torch.device, head: Head) -> AlignmentBatch:
        """The same on another device, where `head` is the target's output head."""
        return replace(
            self,
            batch=move_batch(self.batch, device),
            tokens=self.tokens.to(device),
            teacher=None if self.teacher is None else self.teacher.to(device, head),
        )


def move_batch(batch: TrainingBatch, device: torch.device) -> TrainingBatch:
    """The same on another device."""
    values = (batch.tokens, batch.positions, batch.segments, batch.trained)
    return TrainingBatch(*(value.to(device) for value in values))


def pack_texts(rows: Sequence[Sequence[Text]]) -> TrainingBatch:
    """Rows of texts as one batch, each text a segment of its own.

    A text's tokens are prompt and answer without the last one; the trained positions are those
    that predict an answer token.
    """
    width = max(sum(len(prompt) + len(answer) - 1 for prompt, answer in row) for row in rows)
    tokens = torch.zeros(len(rows), width, dtype=torch.int64)
    positions = torch.arange(width).repeat(len(rows), 1)
    segments = torch.full((len(rows), width), -1, dtype=torch.int64)
    trained = torch.zeros(len(rows), width, dtype=torch.bool)
    for number, row in enumerate(rows):
        first = 0
        for segment, (prompt, answer) in enumerate(row):
            sequence = [*prompt, *answer[:-1]]
            place = slice(first, first + len(sequence))
            tokens[number, place] = torch.tensor(sequence)
            positions[number, place] = torch.arange(len(sequence))
            segments[number, place] = segment
            trained[number, first + len(prompt) - 1 : place.stop] = True
            first = place.stop
    return TrainingBatch(tokens, positions, segments, trained)


def pad_texts(prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]]) -> TrainingBatch:
    """Texts as one batch with a row for each."""
    return pack_texts([[text] for text in zip(prompts, answers, strict=True)])


@dataclass(frozen=True)
class Segment:
    """One text of a batch.

    Attributes:
        row: Its row.
        first: Its first column.
        end: The column after its last one.
    """

    row: int
    first: int
    end: int


def segments_of(batch: TrainingBatch) -> list[Segment]:
    """The texts of a batch, in the order of rows and columns."""
    return list(_segments(batch.segments.tolist()))


def _segments(rows: Sequence[Sequence[int]]) -> Iterator[Segment]:
    for row, numbers in enumerate(rows):
        first = 0
        for column in range(1, len(numbers) + 1):
            if column == len(numbers) or numbers[column] != numbers[first]:
                if numbers[first] >= 0:
                    yield Segment(row, first, column)
                first = column


def split_texts(batch: TrainingBatch) -> list[list[tuple[list[int], int]]]:
    """The prompt of each text and how many tokens answer it, by rows."""
    rows: list[list[tuple[list[int], int]]] = [[] for _ in range(batch.tokens.shape[0])]
    tokens, trained = batch.tokens.tolist(), batch.trained.int()
    for part in segments_of(batch):
        own = trained[part.row, part.first : part.end]
        prompt_end = part.first + int(own.argmax()) + 1
        rows[part.row].append((tokens[part.row][part.first : prompt_end], int(own.sum())))
    return rows


def make_batch(answers: Sequence[StoredAnswer], head: Head) -> AlignmentBatch:
    """Answers as one batch with a row for each; see `make_packed_batch`."""
    return make_packed_batch([[answer] for answer in answers], head)


def make_packed_batch(rows: Sequence[Sequence[StoredAnswer]], head: Head) -> AlignmentBatch:
    """Rows of answers as one batch, with what is stored of the target.

    Raises:
        ValueError: When an answer lacks the teacher signal that others have.
    """
    answers = [answer for row in rows for answer in row]
    tokens = torch.tensor([token for answer in answers for token in answer.answer_ids])
    batch = pack_texts([[(a.prompt_ids, a.answer_ids) for a in row] for row in rows])
    real = sum(len(answer.prompt_ids) + len(answer.answer_ids) - 1 for answer in answers)
    return AlignmentBatch(batch, tokens, _stored_signal(answers, tokens, head), real_tokens=real)


def has_signal(answer: StoredAnswer) -> bool:
    """Whether the target's view of an answer was stored with it."""
    return answer.hidden is not None or answer.top is not None


def _stored_signal(
    answers: Sequence[StoredAnswer], tokens: Tensor, head: Head
) -> StoredTeacherSignal | TopKTeacherSignal | None:
    if not any(has_signal(answer) for answer in answers):
        return None
    if any(answer.top is not None for answer in answers):
        tops = [_kept(answer, answer.top) for answer in answers]
        return TopKTeacherSignal(tokens, TopTokens.cat(tops))
    return StoredTeacherSignal(
        tokens,
        torch.cat([_kept(answer, answer.hidden) for answer in answers]),
        torch.cat([_kept(answer, answer.log_normalizer) for answer in answers]),
        head,
    )


def _kept(answer: StoredAnswer, value: _T | None) -> _T:
    if value is None:
        raise ValueError(f"answer {answer.id} was stored without its teacher signal")
    return value
