"""Weights laid out for the few-token passes of decoding on a CPU.

The compiled kernels read a bf16 matrix at the speed of the memory, for one vector as for eight.
Where they cannot run, oneDNN's own layout still is about 1.5 times faster than rows.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from taskspec.decoding.native.library import kernels
from taskspec.decoding.native.linear import NativeLinear
from taskspec.models.processor import onednn_multiplies_bf16


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
    """Whether packing helps here: bf16 weights on a CPU with kernels or bf16 products."""
    first = next(module.parameters(), None)
    return (
        first is not None
        and first.device.type == "cpu"
        and first.dtype == torch.bfloat16
        and (kernels() is not None or onednn_multiplies_bf16())
    )


def packed(module: nn.Module, int8: bool = False) -> nn.Module:
    """A twin of a module that runs from packed weights; the same module where that cannot help.

    A layer packed for itself, such as an output head, gives float32 where the kernels run it.
    Everything but the linear layers is shared with the original, which stays as it is.

    Args:
        module: What to pack.
        int8: Keep a layer that is packed for itself in a byte per weight, on the kernels.
    """
    if not can_pack(module):
        return module
    if isinstance(module, nn.Linear):
        return _packed_linear(module, torch.float32, int8)
    shared = {id(tensor): tensor for tensor in (*module.parameters(), *module.buffers())}
    twin = copy.deepcopy(module, memo=shared)
    for parent in list(twin.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.Linear:
                setattr(parent, name, _packed_linear(child, child.weight.dtype))
    return twin


def _packed_linear(linear: nn.Linear, dtype: torch.dtype, int8: bool = False) -> nn.Module:
    """On the kernels, whose sums come in float32, or else on oneDNN."""
    if kernels() is not None and linear.in_features % 2 == 0:
        return NativeLinear(linear, dtype, int8)
    return PackedLinear(linear) if onednn_multiplies_bf16() else linear
