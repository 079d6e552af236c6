"""Which decoders the kernels know, and their layers as the kernels read them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from taskspec.decoding.llama_family import is_llama_family, linear_layers
from taskspec.decoding.native.linear import PackedWeight, packed_weight

LANES = 16
"""Values that a kernel treats together: sizes are multiples of it."""


def is_known(decoder: Any) -> bool:
    """Whether the kernels can run a decoder: its parts, dtype, device and sizes."""
    parameters = next(decoder.parameters(), None)
    if parameters is None or parameters.dtype != torch.bfloat16 or parameters.device.type != "cpu":
        return False
    return is_llama_family(decoder) and all(_fits(layer) for layer in decoder.layers)


def _fits(layer: Any) -> bool:
    attention, mlp = layer.self_attn, layer.mlp
    return (
        all(n % LANES == 0 for module in linear_layers(layer) for n in module.weight.shape)
        and getattr(attention, "head_dim", 1) % LANES == 0
        and all(m.bias is None for m in (attention.o_proj, *mlp.children()) if hasattr(m, "bias"))
    )


def layer_weights(
    layer: Any, int8: bool
) -> tuple[dict[str, PackedWeight], dict[str, Tensor | None]]:
    """A layer's matrices and vectors as the kernels read them."""
    attention, mlp = layer.self_attn, layer.mlp
    projections = (attention.q_proj, attention.k_proj, attention.v_proj)
    biases = [
        p.bias if p.bias is not None else p.weight.new_zeros(len(p.weight)) for p in projections
    ]
    biased = any(p.bias is not None for p in projections)
    gate, up = (m.weight.detach().unflatten(0, (-1, LANES)) for m in (mlp.gate_proj, mlp.up_proj))
    norms = {
        "input_norm": layer.input_layernorm,
        "mlp_norm": layer.post_attention_layernorm,
        "query_norm": getattr(attention, "q_norm", None),
        "key_norm": getattr(attention, "k_norm", None),
    }
    matrices = {
        "qkv": torch.cat([p.weight for p in projections]),
        "out": attention.o_proj.weight,
        "gate_up": torch.stack([gate, up], dim=1).flatten(0, 2),
        "down": mlp.down_proj.weight,
    }
    vectors = {name: None if m is None else m.weight.detach().float() for name, m in norms.items()}
    vectors["qkv_bias"] = torch.cat(biases).detach().float() if biased else None
    return {name: packed_weight(weight, int8) for name, weight in matrices.items()}, vectors
