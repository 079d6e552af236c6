"""Stored answers as training batches, for a budget of answer tokens."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from lightning import LightningDataModule
from torch import Tensor, nn

from taskspec.corpus.answers import StoredAnswer, TopTokens
from taskspec.interfaces import TrainingBatch
from taskspec.training.teacher import Head, StoredTeacherSignal, TopKTeacherSignal

_T = TypeVar("_T")
_WINDOW_BATCHES = 16


@dataclass(frozen=True)
class AlignmentBatch:
    """A training batch with the target's view of it.

    Attributes:
        batch: Token sequences.
        tokens: int64 [M], the answer token after each trained position, in their order.
        teacher: The target at the trained positions; None when nothing was stored of it.
        step: Number of the batch within its process's training.
        progress: How much of that training is done, from 0 at the first batch to 1 at the last.
    """

    batch: TrainingBatch
    tokens: Tensor
    teacher: StoredTeacherSignal | TopKTeacherSignal | None
    step: int = 0
    progress: float = 0.0

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


def plan_batches(
    answers: Sequence[StoredAnswer], batch_tokens: int, tokens: int, seed: int
) -> list[list[int]]:
    """Which answers go into which batch, for the whole budget.

    Epochs are shuffled; within a window of batches, answers of similar length come together so
    that little is padding.

    Args:
        answers: What to train on.
        batch_tokens: Tokens per batch, prompts and padding included.
        tokens: Answer tokens to train on, repeats counted.
        seed: Source of the order.

    Returns:
        Indices into `answers`, batch by batch; the plan of a smaller budget is a prefix.
    """
    generator = torch.Generator().manual_seed(seed)
    lengths = [len(answer.prompt_ids) + len(answer.answer_ids) - 1 for answer in answers]
    plan: list[list[int]] = []
    trained = 0
    while trained < tokens:
        order = torch.randperm(len(answers), generator=generator).tolist()
        window = max(1, _WINDOW_BATCHES * batch_tokens // max(1, sum(lengths) // len(lengths)))
        epoch: list[list[int]] = []
        for start in range(0, len(order), window):
            near = sorted(order[start : start + window], key=lambda index: lengths[index])
            epoch.extend(_fill(near, lengths, batch_tokens))
        for place in torch.randperm(len(epoch), generator=generator).tolist():
            plan.append(epoch[place])
            trained += sum(len(answers[index].answer_ids) for index in epoch[place])
            if trained >= tokens:
                break
    return plan


def _fill(order: Sequence[int], lengths: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    batch: list[int] = []
    for index in order:
        if batch and (len(batch) + 1) * lengths[index] > batch_tokens:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def pad_texts(prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]]) -> TrainingBatch:
    """Pad texts to one batch.

    Each sequence is prompt and answer without its last token; the trained positions are those
    that predict an answer token.
    """
    pairs = list(zip(prompts, answers, strict=True))
    sequences = [[*prompt, *answer[:-1]] for prompt, answer in pairs]
    rows, width = len(sequences), max(map(len, sequences))
    tokens = torch.zeros(rows, width, dtype=torch.int64)
    segments = torch.full((rows, width), -1, dtype=torch.int64)
    trained = torch.zeros(rows, width, dtype=torch.bool)
    for row, (prompt, sequence) in enumerate(zip(prompts, sequences, strict=True)):
        tokens[row, : len(sequence)] = torch.tensor(sequence)
        segments[row, : len(sequence)] = 0
        trained[row, len(prompt) - 1 : len(sequence)] = True
    return TrainingBatch(tokens, torch.arange(width).expand(rows, width), segments, trained)


def split_texts(batch: TrainingBatch) -> tuple[list[list[int]], list[int]]:
    """The prompts of a padded batch, and how many tokens answer each."""
    first, counts = batch.trained.int().argmax(1).tolist(), batch.trained.sum(1).tolist()
    rows = zip(batch.tokens.tolist(), first, strict=True)
    return [tokens[: last + 1] for tokens, last in rows], counts


def make_batch(answers: Sequence[StoredAnswer], head: Head) -> AlignmentBatch:
    """Answers as one padded batch, with what is stored of the target.

    Raises:
        ValueError: When an answer lacks the teacher signal that others have.
    """
    tokens = torch.tensor([token for answer in answers for token in answer.answer_ids])
    batch = pad_texts([a.prompt_ids for a in answers], [a.answer_ids for a in answers])
    return AlignmentBatch(batch, tokens, _stored_signal(answers, tokens, head))


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


def progress_at(step: int, steps: int) -> float:
    """How much of a training of so many batches is done at one of them: 0 to 1."""
    return step / max(1, steps - 1)


class BatchLoader:
    """Yields planned batches; its position travels with Lightning's checkpoints."""

    def __init__(
        self, answers: Sequence[StoredAnswer], plan: Sequence[Sequence[int]], head: Head
    ) -> None:
        self.answers, self.plan, self.head = answers, plan, head
        self.position = 0

    def __len__(self) -> int:
        return len(self.plan)

    def __iter__(self) -> Iterator[AlignmentBatch]:
        while self.position < len(self.plan):
            step = self.position
            chosen = [self.answers[index] for index in self.plan[step]]
            self.position += 1
            made = make_batch(chosen, self.head)
            yield replace(made, step=step, progress=progress_at(step, len(self.plan)))

    def state_dict(self) -> dict[str, Any]:
        """Position, for Lightning."""
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a position."""
        self.position = state["position"]


class AlignmentData(LightningDataModule):
    """Stored answers for one alignment; processes share the plan's batches out in turn."""

    def __init__(
        self,
        answers: Sequence[StoredAnswer],
        head: Head,
        batch_tokens: int,
        tokens: int,
        seed: int,
    ) -> None:
        super().__init__()
        self.answers, self.head = answers, head
        self.plan = plan_batches(answers, batch_tokens, tokens, seed)

    @property
    def trained_tokens(self) -> int:
        """Answer tokens of the whole plan."""
        return sum(len(self.answers[index].answer_ids) for batch in self.plan for index in batch)

    def train_dataloader(self) -> BatchLoader:
        """This process's share."""
        rank, world = 0, 1
        if self.trainer is not None:
            rank, world = self.trainer.global_rank, self.trainer.world_size
        # Every process needs as many batches as the others: the first ones fill the last turn.
        turns = -(-len(self.plan) // world)
        filled = [self.plan[place % len(self.plan)] for place in range(turns * world)]
        return BatchLoader(self.answers, filled[rank::world], self.head)

    def transfer_batch_to_device(
        self, batch: AlignmentBatch, device: torch.device, dataloader_idx: int
    ) -> AlignmentBatch:
        """Move a batch; Lightning does not know its type."""
        if isinstance(self.head, nn.Module):
            weight = next(self.head.parameters())
            if weight.device != device:
                self.head = copy.deepcopy(self.head).to(device)
        return batch.to(device, self.head)
