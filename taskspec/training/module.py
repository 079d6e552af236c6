"""The one Lightning module of alignment."""

from __future__ import annotations

import math
from typing import Any

import torch
from lightning import LightningModule
from torch import Tensor

from taskspec.interfaces import Aligner, TeacherSignal, TrainableDrafter, TrainingBatch
from taskspec.training.data import AlignmentBatch
from taskspec.training.on_policy import OnPolicy
from taskspec.training.teacher import OnlineTeacher


class AlignmentModule(LightningModule):
    """Trains what an aligner marked, on the aligner's loss.

    Args:
        drafter: The draft.
        aligner: Says what trains and against which loss.
        learning_rate: Peak rate.
        warmup: Share of steps in which the rate rises; then it falls along a cosine to zero.
        weight_decay: AdamW's, for matrices only.
        seed: Source of the aligner's randomness and of the draft's own texts.
        teacher: The target itself, for batches of which nothing is stored; None when all are.
    """

    def __init__(
        self,
        drafter: TrainableDrafter,
        aligner: Aligner,
        learning_rate: float,
        warmup: float,
        weight_decay: float,
        seed: int,
        teacher: OnlineTeacher | None = None,
    ) -> None:
        super().__init__()
        self.strict_loading = False
        self.drafter, self.aligner = drafter, aligner
        self.learning_rate, self.warmup = learning_rate, warmup
        self.weight_decay = weight_decay
        self.draft = aligner.prepare(drafter, seed)
        self.teacher = teacher
        self.on_policy = None if teacher is None else OnPolicy(drafter, aligner, teacher, seed)

    def training_step(self, batch: AlignmentBatch, batch_idx: int) -> Tensor:
        """Loss of one batch."""
        texts, teacher = self._lesson(batch)
        logits = self.drafter.training_logits(texts, teacher)
        result = self.aligner.loss(logits, teacher, self.drafter.vocabulary)
        size = teacher.tokens.shape[0]
        self.log("loss", result.loss, prog_bar=True, batch_size=size)
        for name, value in result.metrics.items():
            self.log(name, value, prog_bar=True, batch_size=size)
        return result.loss

    def _lesson(self, made: AlignmentBatch) -> tuple[TrainingBatch, TeacherSignal]:
        """What to learn from: the stored answers or the draft's own, and the target's view."""
        if self.on_policy is not None and self.on_policy.chooses(made):
            return self.on_policy.rewrite(made, self.global_rank)
        if made.teacher is not None:
            return made.batch, made.teacher
        assert self.teacher is not None, "without stored signals the target must be at hand"
        return made.batch, self.teacher.signal(made.batch, made.tokens)

    def configure_optimizers(self) -> Any:
        """AdamW on what trains; warm-up, then cosine."""
        trainable = [p for p in self.draft.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in trainable if p.ndim > 1], "weight_decay": self.weight_decay},
            {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=self.learning_rate, betas=(0.9, 0.95))
        # Not Trainer.estimated_stepping_batches: it sets the loader up before a checkpoint's
        # position is restored, and a continued run would begin with the first batches again.
        untyped: Any = self.trainer
        batches = len(untyped.datamodule.train_dataloader())
        total = max(1, math.ceil(batches / self.trainer.accumulate_grad_batches))
        rising = max(1, round(self.warmup * total))

        def factor(step: int) -> float:
            if step < rising:
                return (step + 1) / rising
            return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, total - rising)))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep only what trains."""
        names = {name for name, p in self.named_parameters() if p.requires_grad}
        state = checkpoint["state_dict"]
        checkpoint["state_dict"] = {name: state[name] for name in state if name in names}
