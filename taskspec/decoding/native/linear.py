"""Linear layers on the compiled kernels."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from taskspec.decoding.native.library import address, kernels

GROUP = 32
"""Output columns that the kernels compute together."""


_ZERO, _LEVELS = 64, 63
"""As the kernels' kZero; levels on each side of it."""


class Weight(ctypes.Structure):
    """The kernels' `Weight`: where a packed weight lies."""

    _fields_ = [("data", ctypes.c_void_p), ("scales", ctypes.c_void_p)]


@dataclass(frozen=True)
class PackedWeight:
    """A weight [out, in] in the kernels' layout, [out / 32, in / 2, 32, 2].

    Attributes:
        data: bf16, or uint8 where there are scales.
        scales: float32 [out], rounded up to whole groups: column c holds
            scales[c] * (data[c] - 64).
    """

    data: Tensor
    scales: Tensor | None = None

    def place(self) -> Weight:
        """Where it lies; this object must outlive it."""
        return Weight(address(self.data), address(self.scales))


def packed_weight(weight: Tensor, int8: bool = False) -> PackedWeight:
    """Pack a bf16 weight.

    Args:
        weight: [out, in] on the CPU; `in` is even.
        int8: Round each output's weights to 127 levels of a byte each, half the memory to read.
    """
    library = kernels()
    assert library is not None
    weight = weight.detach().contiguous()
    rows, columns = weight.shape
    groups = -(-rows // GROUP)
    if int8:
        wide = nn.functional.pad(weight.float(), (0, 0, 0, groups * GROUP - rows))
        scales = wide.abs().amax(dim=1).clamp_min(torch.finfo(torch.float32).tiny) / _LEVELS
        levels = (wide / scales[:, None]).round().add(_ZERO).to(torch.uint8)
        data = levels.view(groups, GROUP, columns // 2, 2).transpose(1, 2).contiguous()
        return PackedWeight(data, scales)
    made = torch.empty(groups, columns // 2, GROUP, 2, dtype=torch.bfloat16)
    library.pack(_pointer(weight), rows, columns, _pointer(made))
    return PackedWeight(made)


class NativeLinear(nn.Module):
    """A linear layer on the kernels; for inference only.

    An output's sum runs in one order, however many inputs come at once.

    Args:
        linear: A bf16 layer on the CPU, with an even number of inputs; left as it is.
        dtype: Of the outputs.
        int8: Keep the weights in a byte each.
    """

    def __init__(
        self, linear: nn.Linear, dtype: torch.dtype = torch.float32, int8: bool = False
    ) -> None:
        super().__init__()
        self.dtype = dtype
        self.out_features, self.in_features = linear.weight.shape
        self.weight = packed_weight(linear.weight, int8)
        self.bias = None if linear.bias is None else linear.bias.detach().float()

    def forward(self, inputs: Tensor) -> Tensor:
        """Outputs [..., out] for inputs bf16 [..., in]."""
        library = kernels()
        assert library is not None
        inputs = inputs.to(torch.bfloat16).contiguous()
        outputs = torch.empty(*inputs.shape[:-1], self.out_features)
        weight = self.weight.place()
        library.apply_linear(
            ctypes.byref(weight),
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
