"""What a draft computes in a training: one module, so that a strategy can shard it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from taskspec.interfaces import Aligner, TeacherSignal, TrainableDrafter, TrainingBatch
from taskspec.training.chunked_loss import alignment_loss
from taskspec.training.held_out import score_batch


class Lesson(nn.Module):
    """A draft with its loss.

    Everything that uses the draft's weights happens inside `forward`: sharded weights are whole
    only there, and the loss needs the head in parts.

    Args:
        drafter: The draft.
        draft: Its module, as the aligner prepared it.
        aligner: The loss.
        vocabulary_size: V, tokens of the target's vocabulary.
        most_logits: Logits held at a time, positions times vocabulary; 0 for a whole batch's.
    """

    def __init__(
        self,
        drafter: TrainableDrafter,
        draft: nn.Module,
        aligner: Aligner,
        vocabulary_size: int,
        most_logits: int,
    ) -> None:
        super().__init__()
        self.drafter, self.draft, self.aligner = drafter, draft, aligner
        self.width = vocabulary_size if drafter.vocabulary is None else len(drafter.vocabulary)
        self.most_logits = most_logits
        self.forward_flops = 0

    def forward(
        self, batch: TrainingBatch, teacher: TeacherSignal, scored: bool = False
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss and metrics to log; for held-out answers the sums of their score, and none.

        Counts the arithmetic of the first batch's forward pass.
        """
        if scored:
            score = score_batch(self.drafter, batch, teacher, self.width, self.most_logits)
            return score.sums, {}
        if not self.forward_flops:
            self.forward_flops = self._count(batch, teacher)
        result = alignment_loss(
            self.drafter.training_states(batch, teacher),
            self.drafter.training_head,
            self.aligner,
            teacher,
            self.drafter.vocabulary,
            self.width,
            self.most_logits,
        )
        return result.loss, dict(result.metrics)

    def _count(self, batch: TrainingBatch, teacher: TeacherSignal) -> int:
        # Counting must not move the generators that the training draws from.
        devices = [batch.tokens.device] if batch.tokens.is_cuda else []
        with (
            torch.no_grad(),
            torch.random.fork_rng(devices),
            FlopCounterMode(display=False) as counter,
        ):
            states = self.drafter.training_states(batch, teacher)
            before_head = counter.get_total_flops()
            self.drafter.training_head(states[:1])
        per_position = counter.get_total_flops() - before_head
        return int(before_head + per_position * len(states))
