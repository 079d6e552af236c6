"""Going on with a draft that was trained before: its weights, and the batches that come next."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from taskspec.interfaces import TrainableDrafter


@dataclass(frozen=True)
class Earlier:
    """What an earlier training of the same draft by the same aligner left.

    Attributes:
        tokens: Answer tokens that were planned for all trainings before.
        weights: What `save_trained` wrote after the last of them.
    """

    tokens: int
    weights: Path


def save_trained(drafter: TrainableDrafter, path: Path) -> None:
    """Write what trains of a draft, whether it be the draft or an adapter on it."""
    trained = {
        name: parameter.detach().cpu().contiguous()
        for name, parameter in drafter.module.named_parameters()
        if parameter.requires_grad
    }
    save_file(trained, path)


def load_trained(drafter: TrainableDrafter, path: Path) -> None:
    """Put what `save_trained` wrote into a draft that an aligner has prepared as before."""
    saved = load_file(path)
    with torch.no_grad():
        for name, parameter in drafter.module.named_parameters():
            if name in saved:
                parameter.copy_(saved[name])
