"""Which decoders the kernels know, and their layers as the kernels read them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from taskspec.decoding.native.linear import PackedWeight, packed_weight

LANES = 16
"""Values that a kernel treats together: sizes are multiples of it."""
_TABLES = ("default", "linear", "llama3", "yarn")
"""Rotary embeddings whose angles depend on the position alone."""
_PARTS = {"self_attn", "mlp", "input_layernorm", "post_attention_layernorm"}
_ATTENTION = {"q_proj", "k_proj", "v_proj", "o_proj"}
_MLP = {"gate_proj", "up_proj", "down_proj"}


def is_known(decoder: Any) -> bool:
    """Whether a decoder is made of the parts that the kernels know."""
    layers, config = getattr(decoder, "layers", None), getattr(decoder, "config", None)
    if not isinstance(layers, nn.ModuleList) or not hasattr(decoder, "rotary_emb"):
        return False
    parameters = next(decoder.parameters(), None)
    if parameters is None or parameters.dtype != torch.bfloat16 or parameters.device.type != "cpu":
        return False
    rope = getattr(config, "rope_parameters", None) or {}
    return (
        getattr(config, "hidden_act", None) in ("silu", "swish")
        and rope.get("rope_type", "default") in _TABLES
        and _is_norm(getattr(decoder, "norm", None))
        and all(_known_layer(layer) for layer in layers)
    )


def _known_layer(layer: Any) -> bool:
    names = {
        name for name, child in layer.named_children() if any(True for _ in child.parameters())
    }
    if names != _PARTS or not (
        _is_norm(layer.input_layernorm) and _is_norm(layer.post_attention_layernorm)
    ):
        return False
    attention, mlp = dict(layer.self_attn.named_children()), dict(layer.mlp.named_children())
    norms = {"q_norm", "k_norm"} & attention.keys()
    linear = [*(attention[n] for n in _ATTENTION & attention.keys())]
    linear += [mlp[n] for n in _MLP & mlp.keys()]
    return (
        attention.keys() - norms == _ATTENTION
        and {n for n, m in mlp.items() if any(True for _ in m.parameters())} == _MLP
        and len(norms) != 1
        and all(_is_norm(attention[name]) for name in norms)
        and all(type(module) is nn.Linear for module in linear)
        and all(n % LANES == 0 for module in linear for n in module.weight.shape)
        and not list(layer.self_attn.parameters(recurse=False))
        and getattr(layer.self_attn, "head_dim", 1) % LANES == 0
        and all(m.bias is None for n, m in {**attention, **mlp}.items() if n in ("o_proj", *_MLP))
    )


def _is_norm(module: Any) -> bool:
    return type(module).__name__.endswith("RMSNorm") and hasattr(module, "variance_epsilon")


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
