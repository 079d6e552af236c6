"""Knowledge distillation of a whole draft."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from taskspec.interfaces import TrainableDrafter, option
from taskspec_aligners.distillation import DistillationOptions, DistillingAligner


@dataclass(frozen=True)
class KDOptions(DistillationOptions):
    """Options of `kd`."""

    freeze_embeddings: bool = option(
        True, "Leave the input embedding as it is; it is the largest part and learns least."
    )


class KD(DistillingAligner):
    """Trains the whole draft on the target's distribution.

    Hinton et al. 2015 (arXiv 1503.02531); for drafts, DistillSpec (arXiv 2310.08461).
    """

    name = "kd"
    Options = KDOptions

    def prepare(self, drafter: TrainableDrafter, seed: int) -> nn.Module:
        """Everything trains, but the input embedding if there is one that is to stay."""
        module = drafter.module
        module.requires_grad_(True)
        untyped: Any = module
        if self.options.freeze_embeddings and hasattr(module, "get_input_embeddings"):
            untyped.get_input_embeddings().requires_grad_(False)
        return module

    def export(self, drafter: TrainableDrafter, folder: Path) -> None:
        """Write the complete draft."""
        drafter.save(folder)
