"""The aligner contract: what trains, against which signal, and how it is delivered."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from taskspec.interfaces.plugin import Plugin

if TYPE_CHECKING:
    from torch import Tensor, nn

    from taskspec.interfaces.drafter import TrainableDrafter
    from taskspec.interfaces.teacher import TeacherSignal


@dataclass(frozen=True)
class AlignmentLoss:
    """One batch's loss.

    Attributes:
        loss: Scalar, mean over trained positions, differentiable.
        metrics: Detached scalars to log, by name.
    """

    loss: Tensor
    metrics: Mapping[str, Tensor] = field(default_factory=dict)


class Aligner(Plugin, ABC):
    """Teaches a drafter to say what the target would. It writes no training loop.

    Attributes:
        adapts: Whether it trains an adapter on a shared base draft (`export` then writes a PEFT
            folder) rather than the draft itself (`export` writes a complete draft).
    """

    adapts: ClassVar[bool] = False

    @abstractmethod
    def prepare(self, drafter: TrainableDrafter, seed: int) -> nn.Module:
        """Mark what trains; wrap the drafter's module when adapters are used.

        The same draft and seed give parameters of the same names: a training that goes on from an
        earlier one is prepared again, and then given what that one trained.

        Returns:
            The module whose parameters with `requires_grad` train.
        """

    @abstractmethod
    def loss(
        self, student_logits: Tensor, teacher: TeacherSignal, vocabulary: Tensor | None
    ) -> AlignmentLoss:
        """Compare M trained positions.

        Args:
            student_logits: float [M, Vd], with gradients.
            teacher: The target's view of the same positions.
            vocabulary: int64 [Vd] target ids of the columns; None for all.
        """

    def student_share(self, progress: float) -> float:
        """Share of batches whose texts the draft writes itself, scored by the target meanwhile.

        Args:
            progress: How much of the training is done, from 0 at the first batch to 1 at the last.

        Returns:
            0 (the default) for the target's answers only, up to 1 for none of them.
        """
        return 0.0

    @abstractmethod
    def export(self, drafter: TrainableDrafter, folder: Path) -> None:
        """Write the result into an existing, empty folder: safetensors or PEFT, no pickle."""
