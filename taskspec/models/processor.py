"""What this machine's processor can do."""

from __future__ import annotations

from typing import Any

import torch


def onednn_multiplies_bf16() -> bool:
    """Whether oneDNN is there and this CPU has bf16 products for it."""
    backends: Any = torch.backends
    operators: Any = torch.ops.mkldnn
    return backends.mkldnn.is_available() and bool(operators._is_mkldnn_bf16_supported())
