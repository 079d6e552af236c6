"""The one Lightning module of alignment."""

from __future__ import annotations

import math
from typing import Any

import torch
from lightning import LightningModule
from torch import Tensor

from taskspec.interfaces import Aligner, TeacherSignal, TrainableDrafter, TrainingBatch
from taskspec.training.batches import AlignmentBatch
from taskspec.training.held_out import HeldOutScore
from taskspec.training.lesson import Lesson
from taskspec.training.on_policy import OnPolicy, step_seed
from taskspec.training.online_teacher import OnlineTeacher
from taskspec.training.schedule import Schedule
from taskspec.training.sharding import shard

_DROPOUT = 1
BATCHES_DONE = "batches"
HELD_OUT_ALPHA = "val_alpha"


class AlignmentModule(LightningModule):
    """Trains what an aligner marked, on the aligner's loss.

    Args:
        drafter: The draft.
        aligner: Says what trains and against which loss.
        schedule: Rates, and the logits held at a time.
        seed: Source of the aligner's randomness and of the draft's own texts.
        vocabulary_size: V, tokens of the target's vocabulary.
        teacher: The target itself, for batches of which nothing is stored; None when all are.
        weighs: Whether batches have the weight of their answer tokens; those that the draft writes
            itself are as many as it writes, so that there all batches weigh the same.

    Attributes:
        flops_per_token: The model's arithmetic per token that is no padding: three times the
            draft's forward pass, as counted on the first batch; 0 before.
    """

    def __init__(
        self,
        drafter: TrainableDrafter,
        aligner: Aligner,
        schedule: Schedule,
        seed: int,
        vocabulary_size: int,
        teacher: OnlineTeacher | None = None,
        weighs: bool = True,
    ) -> None:
        super().__init__()
        self.strict_loading = False
        self.schedule, self.teacher, self.weighs = schedule, teacher, weighs
        self.seed = seed
        self.lesson = Lesson(
            drafter,
            aligner.prepare(drafter, seed),
            aligner,
            vocabulary_size,
            schedule.most_logits,
        )
        self.on_policy = None if teacher is None else OnPolicy(drafter, aligner, teacher, seed)
        self.held_out = HeldOutScore()
        self.flops_per_token = 0.0

    def configure_model(self) -> None:
        """Shard the draft when the strategy has a mesh of devices."""
        if self.device_mesh is not None:
            shard(self.lesson, self.device_mesh)

    def training_step(self, batch: AlignmentBatch, batch_idx: int) -> Tensor:
        """Loss of one batch, by its weight among those of its step; its own mean is logged."""
        # What is drawn, as by dropout, is the same in a run that was continued.
        torch.manual_seed(step_seed(self.seed, batch.step, self.global_rank, _DROPOUT))
        texts, teacher = self._texts(batch)
        loss, metrics = self.lesson(texts, teacher)
        if not self.flops_per_token:
            self.flops_per_token = 3 * self.lesson.forward_flops / batch.real_tokens
        size = teacher.tokens.shape[0]
        for name, value in {"loss": loss, **metrics}.items():
            self.log(name, value, prog_bar=True, batch_size=size)
        trained: Tensor = loss * batch.weight if self.weighs else loss
        return trained

    def validation_step(self, batch: AlignmentBatch, batch_idx: int) -> None:
        """Score one batch of held-out answers, unless another process adds its score."""
        sums, _ = self.lesson(batch.batch, self._view(batch), scored=True)
        if batch.weight:
            self.held_out += HeldOutScore(sums)

    def on_train_end(self) -> None:
        """Note how many batches this process did; metrics reach the one that started it."""
        untyped: Any = self.trainer
        untyped.callback_metrics[BATCHES_DONE] = torch.tensor(untyped.train_dataloader.position)

    def on_validation_epoch_end(self) -> None:
        """Log acceptance and simulated block efficiency over all held-out answers."""
        score, self.held_out = self.held_out, HeldOutScore()
        strategy: Any = self.trainer.strategy
        sums = strategy.reduce(score.sums.float().to(self.device), reduce_op="sum")
        for name, value in HeldOutScore(sums).metrics().items():
            self.log(name, value, prog_bar=name == HELD_OUT_ALPHA)

    def _texts(self, made: AlignmentBatch) -> tuple[TrainingBatch, TeacherSignal]:
        """What to learn from: the stored answers or the draft's own, and the target's view."""
        if self.on_policy is not None and self.on_policy.chooses(made):
            return self.on_policy.rewrite(made, self.global_rank)
        return made.batch, self._view(made)

    def _view(self, made: AlignmentBatch) -> TeacherSignal:
        if made.teacher is not None:
            return made.teacher
        assert self.teacher is not None, "without stored signals the target must be at hand"
        return self.teacher.signal(made.batch, made.tokens)

    def configure_optimizers(self) -> Any:
        """AdamW on what trains; warm-up, then cosine."""
        trainable = [p for p in self.parameters() if p.requires_grad]
        decayed = {"params": [p for p in trainable if p.ndim > 1]}
        others = {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0}
        optimizer = torch.optim.AdamW(
            [group for group in (decayed, others) if group["params"]],
            lr=self.schedule.learning_rate,
            weight_decay=self.schedule.weight_decay,
            betas=(0.9, 0.95),
            # A fused step undoes float16's scaling by itself, after gradients were clipped.
            fused=self.trainer.precision != "16-mixed",
        )
        # Not Trainer.estimated_stepping_batches: it sets the loader up before a checkpoint's
        # position is restored, and a continued run would begin with the first batches again.
        untyped: Any = self.trainer
        batches = len(untyped.datamodule.train_dataloader())
        total = max(1, math.ceil(batches / self.trainer.accumulate_grad_batches))
        rates = torch.optim.lr_scheduler.LambdaLR(optimizer, self.schedule.factors(total))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": rates, "interval": "step"}}

    def configure_gradient_clipping(
        self,
        optimizer: Any,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the norm; Lightning refuses to for fused optimizers under any autocast."""
        if gradient_clip_val:
            torch.nn.utils.clip_grad_norm_(self.lesson.parameters(), gradient_clip_val)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep only what trains; averaged weights are kept whole, as Lightning reads them."""
        if "averaging_state" in checkpoint:
            return
        names = {name for name, p in self.named_parameters() if p.requires_grad}
        state = checkpoint["state_dict"]
        checkpoint["state_dict"] = {name: state[name] for name in state if name in names}
