"""Which decoders are made of the parts that the engine has kernels for."""

from __future__ import annotations

from typing import Any

from torch import nn

_TYPES = {"llama", "mistral", "qwen2", "qwen3"}
"""Of other models some look alike and do more, such as layers that do not turn their keys."""
_TABLES = ("default", "linear", "llama3", "yarn")
"""Rotary embeddings whose angles depend on the position alone."""
_PARTS = {"self_attn", "mlp", "input_layernorm", "post_attention_layernorm"}
_ATTENTION = {"q_proj", "k_proj", "v_proj", "o_proj"}
_MLP = {"gate_proj", "up_proj", "down_proj"}


def is_llama_family(decoder: Any) -> bool:
    """Whether a decoder is a llama, mistral, qwen2 or qwen3, made of the parts that these have."""
    layers, config = getattr(decoder, "layers", None), getattr(decoder, "config", None)
    if not isinstance(layers, nn.ModuleList) or not hasattr(decoder, "rotary_emb"):
        return False
    rope = getattr(config, "rope_parameters", None) or {}
    return (
        getattr(config, "model_type", None) in _TYPES
        and getattr(config, "hidden_act", None) in ("silu", "swish")
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
    return (
        attention.keys() - norms == _ATTENTION
        and {n for n, m in mlp.items() if any(True for _ in m.parameters())} == _MLP
        and len(norms) != 1
        and all(_is_norm(attention[name]) for name in norms)
        and all(type(module) is nn.Linear for module in linear_layers(layer))
        and not list(layer.self_attn.parameters(recurse=False))
    )


def linear_layers(layer: Any) -> list[Any]:
    """The matrices of a layer that has the family's parts."""
    attention, mlp = layer.self_attn, layer.mlp
    return [
        *(getattr(attention, name) for name in sorted(_ATTENTION)),
        *(getattr(mlp, name) for name in sorted(_MLP)),
    ]


def _is_norm(module: Any) -> bool:
    return type(module).__name__.endswith("RMSNorm") and hasattr(module, "variance_epsilon")
