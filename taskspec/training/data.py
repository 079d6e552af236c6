"""Stored answers as training batches, for a budget of answer tokens."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from lightning import LightningDataModule
from torch import Tensor, nn

from taskspec.corpus.answers import StoredAnswer
from taskspec.interfaces import TrainingBatch
from taskspec.training.teacher import Head, StoredTeacherSignal

_WINDOW_BATCHES = 16


@dataclass(frozen=True)
class AlignmentBatch:
    """A training batch with the target's view of it.

    Attributes:
        batch: Token sequences.
        teacher: The target at the batch's trained positions, in their order.
    """

    batch: TrainingBatch
    teacher: StoredTeacherSignal

    def to(self, device: torch.device, head: Head) -> AlignmentBatch:
        """The same on another device, where `head` is the target's output head."""
        moved = [getattr(self.batch, name).to(device) for name in _BATCH_FIELDS]
        teacher = self.teacher
        return AlignmentBatch(
            TrainingBatch(*moved),
            StoredTeacherSignal(
                teacher.tokens.to(device),
                teacher.hidden.to(device),
                teacher.log_normalizer.to(device),
                head,
            ),
        )


_BATCH_FIELDS = ("tokens", "positions", "segments", "trained")


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


def make_batch(answers: Sequence[StoredAnswer], head: Head) -> AlignmentBatch:
    """Pad answers to one batch.

    Each sequence is prompt and answer without its last token; the trained positions are those
    that predict an answer token.
    """
    sequences = [[*answer.prompt_ids, *answer.answer_ids[:-1]] for answer in answers]
    rows, width = len(answers), max(map(len, sequences))
    tokens = torch.zeros(rows, width, dtype=torch.int64)
    segments = torch.full((rows, width), -1, dtype=torch.int64)
    trained = torch.zeros(rows, width, dtype=torch.bool)
    for row, (answer, sequence) in enumerate(zip(answers, sequences, strict=True)):
        tokens[row, : len(sequence)] = torch.tensor(sequence)
        segments[row, : len(sequence)] = 0
        trained[row, len(answer.prompt_ids) - 1 : len(sequence)] = True
    positions = torch.arange(width).expand(rows, width)
    return AlignmentBatch(
        TrainingBatch(tokens, positions, segments, trained),
        StoredTeacherSignal(
            torch.tensor([token for answer in answers for token in answer.answer_ids]),
            torch.cat([_kept(answer, answer.hidden) for answer in answers]),
            torch.cat([_kept(answer, answer.log_normalizer) for answer in answers]),
            head,
        ),
    )


def _kept(answer: StoredAnswer, value: Tensor | None) -> Tensor:
    if value is None:
        raise ValueError(f"answer {answer.id} was stored without its teacher signal")
    return value


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
            chosen = [self.answers[index] for index in self.plan[self.position]]
            self.position += 1
            yield make_batch(chosen, self.head)

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
