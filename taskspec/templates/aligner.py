"""Teaching a draft the target's own tokens."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from taskspec.interfaces import Aligner, AlignmentLoss, TeacherSignal, TrainableDrafter, option


@dataclass(frozen=True)
class MyPluginOptions:
    """Options of `my-plugin`."""

    smoothing: float = option(0.0, "Share of the loss that asks for the target's distribution.")

    def __post_init__(self) -> None:
        if not 0 <= self.smoothing <= 1:
            raise ValueError("smoothing must be between 0 and 1")


class MyPlugin(Aligner):
    """Cross-entropy with what the target said, and, if asked for, with all it might have said."""

    name = "my-plugin"
    Options = MyPluginOptions

    def prepare(self, drafter: TrainableDrafter, seed: int) -> nn.Module:
        """The whole draft trains."""
        return drafter.module.requires_grad_(True)

    def loss(
        self, student_logits: Tensor, teacher: TeacherSignal, vocabulary: Tensor | None
    ) -> AlignmentLoss:
        """Mean over the trained positions; a token that the draft cannot say teaches nothing."""
        log_q = student_logits.float().log_softmax(dim=-1)
        p = teacher.log_probs(vocabulary).exp()
        if vocabulary is None:
            said = nn.functional.one_hot(teacher.tokens, log_q.shape[-1]).float()
        else:
            said = (teacher.tokens[:, None] == vocabulary.to(teacher.tokens.device)).float()
        wanted = torch.lerp(said, p, self.options.smoothing)
        return AlignmentLoss(-(wanted * log_q).sum(dim=-1).mean())

    def export(self, drafter: TrainableDrafter, folder: Path) -> None:
        """Write the complete draft."""
        drafter.save(folder)
