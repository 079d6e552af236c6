"""What alignment computes in, where the recipe leaves it open."""

from __future__ import annotations

import torch

from taskspec.models.processor import onednn_multiplies_bf16


def choose_precision(named: str, accelerator: str) -> str:
    """A Lightning precision.

    Args:
        named: As in the recipe; `auto` is `bf16-mixed` where the device multiplies bf16 itself, and
            `32-true` on CPUs that would emulate it, many times slower.
        accelerator: As in the recipe.
    """
    if named != "auto":
        return named
    on_cpu = accelerator == "cpu" or (accelerator == "auto" and not torch.cuda.is_available())
    return "32-true" if on_cpu and not onednn_multiplies_bf16() else "bf16-mixed"
