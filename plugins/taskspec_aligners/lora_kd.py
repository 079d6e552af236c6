"""Knowledge distillation into LoRA adapters on one shared draft."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from taskspec.interfaces import TrainableDrafter, option
from taskspec.models.quiet import quiet_transformers
from taskspec_aligners.distillation import DistillationOptions, DistillingAligner


@dataclass(frozen=True)
class LoraKDOptions(DistillationOptions):
    """Options of `lora-kd`."""

    rank: int = option(32, "Rank of the adapters.")
    alpha: int = option(64, "Scale of the adapters; their product is multiplied by alpha / rank.")
    adapt_head: bool = option(True, "Adapt the draft's output head too.")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("rank", "alpha"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")


class LoraKD(DistillingAligner):
    """Trains one LoRA adapter per task; all tasks share the base draft.

    The alignment of TaskSpec (arXiv 2505.08600) with LoRA (arXiv 2106.09685).
    """

    name = "lora-kd"
    Options = LoraKDOptions
    adapts = True

    def prepare(self, drafter: TrainableDrafter, seed: int) -> nn.Module:
        """Wrap every linear layer of the draft in an adapter; only the adapters train."""
        from peft import LoraConfig, get_peft_model

        base: Any = drafter.module
        head = drafter.training_head
        names = [
            name
            for name, module in base.named_modules()
            if isinstance(module, nn.Linear) and (module is not head or self.options.adapt_head)
        ]
        config = LoraConfig(
            r=self.options.rank,
            lora_alpha=self.options.alpha,
            target_modules=names,
            lora_dropout=0.0,
            bias="none",
        )
        with torch.random.fork_rng(), quiet_transformers():
            torch.manual_seed(seed)
            adapted: nn.Module = get_peft_model(base, config)
        drafter.module = adapted
        return adapted

    def export(self, drafter: TrainableDrafter, folder: Path) -> None:
        """Write the adapter as a PEFT folder."""
        untyped: Any = drafter.module
        untyped.save_pretrained(folder, safe_serialization=True, save_embedding_layers=False)
