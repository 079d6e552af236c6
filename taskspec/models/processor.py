"""What this machine's processor can do."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def onednn_multiplies_bf16() -> bool:
    """Whether oneDNN is there and this CPU has bf16 products for it."""
    backends: Any = torch.backends
    operators: Any = torch.ops.mkldnn
    return backends.mkldnn.is_available() and bool(operators._is_mkldnn_bf16_supported())


def multipliable(values: Tensor) -> Tensor:
    """A tensor for matrix products, in float32 where a CPU would emulate those of bf16."""
    emulated = values.device.type == "cpu" and values.dtype == torch.bfloat16
    return values.float() if emulated and not onednn_multiplies_bf16() else values
