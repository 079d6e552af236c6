"""Stored answers as training batches, for a budget of answer tokens."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from lightning import LightningDataModule
from torch import nn

from taskspec.corpus.answers import StoredAnswer
from taskspec.training.batches import AlignmentBatch, make_packed_batch
from taskspec.training.packing import Rows, answer_tokens, batch_weights, plan_batches
from taskspec.training.teacher import Head


def progress_at(step: int, steps: int) -> float:
    """How much of a training of so many batches is done at one of them: 0 to 1."""
    return step / max(1, steps - 1)


class BatchLoader:
    """Yields planned batches; its position travels with Lightning's checkpoints.

    Args:
        answers: What batches are made of.
        plan: This process's batches.
        head: The target's output head.
        weights: What the loss of each batch counts for; None for 1.
    """

    def __init__(
        self,
        answers: Sequence[StoredAnswer],
        plan: Sequence[Rows],
        head: Head,
        weights: Sequence[float] | None = None,
    ) -> None:
        self.answers, self.plan, self.head = answers, plan, head
        self.weights = [1.0] * len(plan) if weights is None else weights
        self.position = 0

    def __len__(self) -> int:
        return len(self.plan)

    def __iter__(self) -> Iterator[AlignmentBatch]:
        while self.position < len(self.plan):
            step = self.position
            self.position += 1
            made = _made(self.answers, self.plan[step], self.head, self.weights[step])
            yield replace(made, step=step, progress=progress_at(step, len(self.plan)))

    def state_dict(self) -> dict[str, Any]:
        """Position, for Lightning."""
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a position."""
        self.position = state["position"]


class AlignmentData(LightningDataModule):
    """Stored answers for one alignment; processes share the plan's batches out in turn.

    The batches of a step, from all processes, stand together in the plan, and each has the weight
    of its answer tokens among theirs.

    Args:
        answers: What to train on.
        held_out: What to score meanwhile; may be empty.
        head: The target's output head.
        batch_tokens: Tokens per batch, prompts and padding included.
        tokens: Answer tokens to train on, repeats counted.
        seed: Source of the order.
        before: Answer tokens that earlier trainings had; the batches are those that come next.
    """

    def __init__(
        self,
        answers: Sequence[StoredAnswer],
        held_out: Sequence[StoredAnswer],
        head: Head,
        batch_tokens: int,
        tokens: int,
        seed: int,
        before: int = 0,
    ) -> None:
        super().__init__()
        self.answers, self.held_out, self.head = answers, held_out, head
        whole = plan_batches(answers, batch_tokens, before + tokens, seed)
        had = len(plan_batches(answers, batch_tokens, before, seed))
        # The batch that ended the earlier training may have had all that this one asks for.
        self.plan = whole[had:] or whole[-1:]
        once = sum(len(answer.answer_ids) for answer in held_out)
        self.held_out_plan = plan_batches(held_out, batch_tokens, once, seed) if held_out else []

    def done(self, batches: int, world: int) -> list[Rows]:
        """What so many processes have trained on together after so many batches each."""
        return self.plan[: batches * world]

    def train_dataloader(self) -> BatchLoader:
        """This process's share of the training answers."""
        accumulated = 1 if self.trainer is None else self.trainer.accumulate_grad_batches
        counts = [answer_tokens(self.answers, rows) for rows in self.plan]
        weights = batch_weights(counts, accumulated * self._process()[1])
        own, weights = self._share(self.plan, weights)
        return BatchLoader(self.answers, own, self.head, weights)

    def val_dataloader(self) -> HeldOutLoader | list[Any]:
        """This process's share of the held-out answers."""
        if not self.held_out:
            return []
        own, weights = self._share(self.held_out_plan, [1.0] * len(self.held_out_plan))
        return HeldOutLoader(self.held_out, own, self.head, weights)

    def _process(self) -> tuple[int, int]:
        """This process's number, and how many there are."""
        if self.trainer is None:
            return 0, 1
        return self.trainer.global_rank, self.trainer.world_size

    def _share(
        self, plan: Sequence[Rows], weights: Sequence[float]
    ) -> tuple[list[Rows], list[float]]:
        """This process's batches of a plan, and their weights.

        Every process needs as many batches as the others: the first ones fill the last turn, and
        count for nothing there.
        """
        rank, world = self._process()
        places = range(rank, -(-len(plan) // world) * world, world)
        counted = [weights[place] if place < len(plan) else 0.0 for place in places]
        return [plan[place % len(plan)] for place in places], counted

    def transfer_batch_to_device(
        self, batch: AlignmentBatch, device: torch.device, dataloader_idx: int
    ) -> AlignmentBatch:
        """Move a batch; Lightning does not know its type."""
        if isinstance(self.head, nn.Module):
            weight = next(self.head.parameters())
            if weight.device != device:
                self.head = copy.deepcopy(self.head).to(device)
        return batch.to(device, self.head)


class HeldOutLoader:
    """Yields the batches of held-out answers, the same ones each time.

    Args:
        answers: What batches are made of.
        plan: This process's batches.
        head: The target's output head.
        weights: 1 for each, or 0 for one that another process scores, too.
    """

    def __init__(
        self,
        answers: Sequence[StoredAnswer],
        plan: Sequence[Rows],
        head: Head,
        weights: Sequence[float],
    ) -> None:
        self.answers, self.plan, self.head, self.weights = answers, plan, head, weights

    def __len__(self) -> int:
        return len(self.plan)

    def __iter__(self) -> Iterator[AlignmentBatch]:
        for rows, weight in zip(self.plan, self.weights, strict=True):
            yield _made(self.answers, rows, self.head, weight)


def _made(answers: Sequence[StoredAnswer], rows: Rows, head: Head, weight: float) -> AlignmentBatch:
    made = make_packed_batch([[answers[index] for index in row] for row in rows], head)
    return replace(made, weight=weight)
