"""Weights laid out for the few-token passes of decoding on a CPU.

A bf16 matrix times one to eight vectors runs about 1.5 times faster from oneDNN's own layout than
from rows, and costs nearly the same for eight vectors as for one.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn


class PackedLinear(nn.Module):
    """A linear layer whose weight lies in oneDNN's layout; for inference only.

    Args:
        linear: The layer to take weight and bias from; it is left as it is.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        operators: Any = torch.ops.mkldnn
        self.apply_packed = operators._linear_pointwise
        self.weight = operators._reorder_linear_weight(linear.weight.detach(), None)
        self.bias = None if linear.bias is None else linear.bias.detach()

    def forward(self, inputs: Tensor) -> Tensor:
        """The layer's outputs [..., out] for inputs [..., in]."""
        outputs: Tensor = self.apply_packed(inputs, self.weight, self.bias, "none", [], "")
        return outputs


def can_pack(module: nn.Module) -> bool:
    """Whether packing helps here: bf16 weights on a CPU that multiplies bf16 itself."""
    first = next(module.parameters(), None)
    backends: Any = torch.backends
    operators: Any = torch.ops.mkldnn
    return (
        first is not None
        and first.device.type == "cpu"
        and first.dtype == torch.bfloat16
        and backends.mkldnn.is_available()
        and bool(operators._is_mkldnn_bf16_supported())
    )


def packed(module: nn.Module) -> nn.Module:
    """A twin of a module that runs from packed weights; the same module where that cannot help.

    Everything but the linear layers is shared with the original, which stays as it is.
    """
    if not can_pack(module):
        return module
    if isinstance(module, nn.Linear):
        return PackedLinear(module)
    shared = {id(tensor): tensor for tensor in (*module.parameters(), *module.buffers())}
    twin = copy.deepcopy(module, memo=shared)
    for parent in list(twin.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.Linear:
                setattr(parent, name, PackedLinear(child))
    return twin
