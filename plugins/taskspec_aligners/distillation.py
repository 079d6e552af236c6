"""What the distilling aligners share: objective, and whose texts are learnt from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from taskspec.interfaces import Aligner, AlignmentLoss, TeacherSignal, option
from taskspec.training.losses import acceptance, agreement
from taskspec.training.objectives import Objective

_DATA = ("teacher", "student", "mixed")


@dataclass(frozen=True)
class DistillationOptions:
    """Options of every distilling aligner."""

    objective: Any = option(
        {"forward-kl": 1.0},
        "What to minimise, by name or as names with weights: forward-kl, reverse-kl, "
        "jensen-shannon, total-variation, tvd++, log-acceptance, cross-entropy.",
    )
    beta: float = option(0.5, "Weight of the target in jensen-shannon's mixture, within 0 and 1.")
    data: str = option(
        "teacher",
        "Texts to learn from: the target's answers (teacher), what the draft writes itself and "
        "the target scores meanwhile (student), or mixed.",
    )
    student_share: float = option(
        0.5, "With mixed data, the share of the draft's own texts at the end; it rises from 0."
    )

    def __post_init__(self) -> None:
        Objective.parse(self.objective, self.beta)
        if self.data not in _DATA:
            raise ValueError(f"data must be one of {', '.join(_DATA)}, not '{self.data}'")
        if not 0 < self.student_share <= 1:
            raise ValueError(
                f"student_share must be above 0 and at most 1, not {self.student_share:g}"
            )


class DistillingAligner(Aligner):
    """Distillation against the target's distribution, on its texts or on the draft's own.

    Hinton et al. 2015 (arXiv 1503.02531); for drafts, DistillSpec (arXiv 2310.08461). Learning
    from the draft's own texts follows GKD (arXiv 2306.13649, algorithm 1).
    """

    def __init__(self, options: Any = None) -> None:
        super().__init__(options)
        self.objective = Objective.parse(self.options.objective, self.options.beta)

    def loss(
        self, student_logits: Tensor, teacher: TeacherSignal, vocabulary: Tensor | None
    ) -> AlignmentLoss:
        """The objective, with alpha and top-1 agreement to watch."""
        log_p = teacher.log_probs(vocabulary)
        detached = student_logits.detach()
        return AlignmentLoss(
            self.objective.loss(student_logits, log_p, teacher.tokens, vocabulary),
            {
                "alpha": acceptance(detached, log_p),
                "agreement": agreement(detached, teacher.tokens, vocabulary),
            },
        )

    def student_share(self, progress: float) -> float:
        """0 or 1, or rising along a line to `student_share` when mixed."""
        if self.options.data == "mixed":
            return float(self.options.student_share) * progress
        return float(self.options.data == "student")
