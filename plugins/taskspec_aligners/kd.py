"""Knowledge distillation of a whole draft."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from taskspec.interfaces import Aligner, AlignmentLoss, TeacherSignal, TrainableDrafter, option
from taskspec.training.losses import acceptance, agreement, forward_kl


@dataclass(frozen=True)
class KDOptions:
    """Options of `kd`."""

    freeze_embeddings: bool = option(
        True, "Leave the input embedding as it is; it is the largest part and learns least."
    )


def distillation_loss(
    student_logits: Tensor, teacher: TeacherSignal, vocabulary: Tensor | None
) -> AlignmentLoss:
    """Forward KL to the target's distribution, with alpha and top-1 agreement to watch.

    Hinton et al. 2015 (arXiv 1503.02531); for drafts, DistillSpec (arXiv 2310.08461).
    """
    log_p = teacher.log_probs(vocabulary)
    detached = student_logits.detach()
    return AlignmentLoss(
        forward_kl(student_logits, log_p),
        {
            "alpha": acceptance(detached, log_p),
            "agreement": agreement(detached, teacher.tokens, vocabulary),
        },
    )


class KD(Aligner):
    """Trains the whole draft on the target's distribution (forward KL)."""

    name = "kd"
    Options = KDOptions

    def prepare(self, drafter: TrainableDrafter, seed: int) -> nn.Module:
        """Everything trains, but the input embedding if it is to stay."""
        module = drafter.module
        module.requires_grad_(True)
        if self.options.freeze_embeddings:
            untyped: Any = module
            untyped.get_input_embeddings().requires_grad_(False)
        return module

    def loss(
        self, student_logits: Tensor, teacher: TeacherSignal, vocabulary: Tensor | None
    ) -> AlignmentLoss:
        """Forward KL."""
        return distillation_loss(student_logits, teacher, vocabulary)

    def export(self, drafter: TrainableDrafter, folder: Path) -> None:
        """Write the complete draft."""
        drafter.save(folder)
