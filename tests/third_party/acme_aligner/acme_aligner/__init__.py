"""Acme's aligner for TaskSpec."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from taskspec.hookspecs import hookimpl
from taskspec.interfaces import Aligner, AlignmentLoss, TeacherSignal, TrainableDrafter, option


@dataclass(frozen=True)
class SquaresOptions:
    """Options of `acme-squares`."""

    scale: float = option(10.0, "Factor on the squared difference of probabilities.")


class Squares(Aligner):
    """Brier score: the squared difference between the target's and the draft's probabilities."""

    name = "acme-squares"
    Options = SquaresOptions

    def prepare(self, drafter: TrainableDrafter, seed: int) -> nn.Module:
        """The whole draft trains."""
        return drafter.module.requires_grad_(True)

    def loss(
        self, student_logits: Tensor, teacher: TeacherSignal, vocabulary: Tensor | None
    ) -> AlignmentLoss:
        """Mean over the trained positions."""
        q = student_logits.float().softmax(dim=-1)
        p = teacher.log_probs(vocabulary).exp()
        return AlignmentLoss(self.options.scale * ((q - p) ** 2).sum(dim=-1).mean())

    def export(self, drafter: TrainableDrafter, folder: Path) -> None:
        """Write the complete draft."""
        drafter.save(folder)


@hookimpl
def taskspec_aligners() -> Iterable[type[Aligner]]:
    """Offer the aligner."""
    return (Squares,)
