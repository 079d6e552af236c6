"""Linear layers on the compiled kernels."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor, nn

from taskspec.decoding.native.library import address, kernels

GROUP = 32
"""Output columns that the kernels compute together."""


def packed_weight(weight: Tensor) -> Tensor:
    """A bf16 weight [out, in] in the kernels' layout, [out / 32, in / 2, 32, 2], zero-padded.

    Args:
        weight: On the CPU; `in` is even.
    """
    library = kernels()
    assert library is not None
    weight = weight.detach().contiguous()
    rows, columns = weight.shape
    made = torch.empty(-(-rows // GROUP), columns // 2, GROUP, 2, dtype=torch.bfloat16)
    library.pack(_pointer(weight), rows, columns, _pointer(made))
    return made


class NativeLinear(nn.Module):
    """A linear layer on the kernels; for inference only.

    An output's sum runs in one order, however many inputs come at once.

    Args:
        linear: A bf16 layer on the CPU, with an even number of inputs; left as it is.
        dtype: Of the outputs.
    """

    def __init__(self, linear: nn.Linear, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.dtype = dtype
        self.out_features, self.in_features = linear.weight.shape
        self.weight = packed_weight(linear.weight)
        self.bias = None if linear.bias is None else linear.bias.detach().float()

    def forward(self, inputs: Tensor) -> Tensor:
        """Outputs [..., out] for inputs bf16 [..., in]."""
        library = kernels()
        assert library is not None
        inputs = inputs.to(torch.bfloat16).contiguous()
        outputs = torch.empty(*inputs.shape[:-1], self.out_features)
        library.apply_linear(
            _pointer(self.weight),
            _pointer(self.bias),
            self.out_features,
            self.in_features,
            _pointer(inputs),
            inputs.numel() // self.in_features,
            _pointer(outputs),
            torch.get_num_threads(),
        )
        return outputs.to(self.dtype)


def _pointer(tensor: Tensor | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(address(tensor))
