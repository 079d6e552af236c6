"""A transformers decoder whose few-token passes run with fused operators."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from taskspec.decoding.llama_family import is_llama_family
from taskspec.decoding.native.library import SWITCH
from taskspec.decoding.row_cache import RowCache, Window
from taskspec.models.attention import sliding_window

_PROBE, _KEYS, _TOLERANCE = 32, 512, 0.1
_COPIED = 2**30
"""Bytes that copies of one decoder's matrices may take."""


class _Joined:
    """Matrices that read the same states, multiplied together where memory allows their copy.

    Args:
        parts: Linear layers of one input.
        copies: Whether to keep a copy of all of them as one.
    """

    def __init__(self, parts: Sequence[nn.Linear], copies: bool) -> None:
        self.parts, self.weight, self.bias = parts, None, None
        self.sizes = [part.out_features for part in parts]
        if copies:
            self.weight = torch.cat([part.weight.detach() for part in parts])
            if parts[0].bias is not None:
                self.bias = torch.cat([part.bias.detach() for part in parts])

    def __call__(self, states: Tensor) -> Sequence[Tensor]:
        """What each part makes of states [M, H]."""
        if self.weight is None:
            return [part(states) for part in self.parts]
        return torch.split(functional.linear(states, self.weight, self.bias), self.sizes, dim=1)


class FusedDecoder:
    """Runs a decoder of the llama family on the weights that transformers holds.

    Args:
        decoder: What `of` accepted.
    """

    def __init__(self, decoder: Any) -> None:
        from taskspec.decoding.fused.operators import HeadNorms

        self._decoder = decoder
        window = sliding_window(decoder.config)
        kinds = getattr(decoder.config, "layer_types", None) or ["sliding_attention"] * len(
            decoder.layers
        )
        self._reach = [window if kind == "sliding_attention" else None for kind in kinds]
        self._head_norms = [
            HeadNorms(attention.q_norm.weight, attention.k_norm.weight, _epsilon(attention.q_norm))
            if hasattr(attention, "q_norm")
            else None
            for attention in (layer.self_attn for layer in decoder.layers)
        ]
        read = [_readers(layer) for layer in decoder.layers]
        weights = [part.weight for parts in read for each in parts for part in each]
        copies = sum(weight.nbytes for weight in weights) <= _COPIED
        self._inputs = [tuple(_Joined(parts, copies) for parts in each) for each in read]

    @classmethod
    def of(cls, decoder: Any) -> Self | None:
        """The decoder with fused operators, or None where they do not apply.

        They apply to decoders on a GPU in 16 bits, made of the parts that the kernels know, whose
        states on a probe they reproduce. `TASKSPEC_NATIVE=0` keeps transformers' own; where the
        kernels cannot run, one warning says so.
        """
        first = next(decoder.parameters(), None)
        if (
            first is None
            or first.device.type != "cuda"
            or first.dtype not in (torch.bfloat16, torch.float16)
            or os.environ.get(SWITCH) == "0"
            or not is_llama_family(decoder)
        ):
            return None
        try:
            with torch.cuda.device(first.device):
                made = cls(decoder)
                return made if made.reproduces() else None
        except Exception as error:  # noqa: BLE001 - Triton passes on what its compilers raise
            reason = str(error).strip().splitlines()[:1]
            warnings.warn(
                "passes run with transformers' operators, which is slower: the fused ones cannot "
                f"run ({type(error).__name__}: {''.join(reason)}); they need Triton, a C compiler "
                f"and some memory; {SWITCH}=0 does without them and this warning",
                stacklevel=2,
            )
            return None

    @torch.inference_mode()
    def reproduces(self) -> bool:
        """Whether the states of a probe are those of transformers but for rounding."""
        decoder, device = self._decoder, self._decoder.norm.weight.device
        generator = torch.Generator().manual_seed(0)
        shape = (2, _PROBE, decoder.norm.weight.shape[0])
        probe = torch.randn(shape, generator=generator).mul(0.1)
        probe = probe.to(device, decoder.norm.weight.dtype)
        # As many tokens and keys as take every kernel, in its largest form.
        cache = RowCache(len(decoder.layers), 2, _KEYS)
        rows, places = torch.arange(2, device=device)[:, None], torch.arange(_PROBE, device=device)
        window = Window((0, 1), rows, places.expand(2, -1).contiguous(), _KEYS, True)
        expected = decoder(inputs_embeds=probe, use_cache=False).last_hidden_state
        found = self.run(cache, window, probe, [len(decoder.layers)])
        wrong = (found.float() - expected.float()).norm(dim=-1)
        return bool((wrong / expected.float().norm(dim=-1)).median() < _TOLERANCE)

    def run(
        self, cache: RowCache, window: Window, embeddings: Tensor, layers: Sequence[int]
    ) -> Tensor:
        """Append tokens at a window of a cache; their states.

        Args:
            cache: The rows' keys and values.
            window: Where the tokens belong; neighbours in order need not be rows.
            embeddings: [B, T, H].
            layers: Whose inputs to return, side by side; their number for the final normalised
                state.

        Returns:
            [B, T, H * len(layers)].
        """
        device = torch.cuda.device(embeddings.device) if embeddings.is_cuda else nullcontext()
        with device:
            return self._run(cache, window, embeddings, layers)

    def _run(
        self, cache: RowCache, window: Window, embeddings: Tensor, layers: Sequence[int]
    ) -> Tensor:
        from taskspec.decoding.fused.operators import add_norm, attend, gated, rotate_and_store

        decoder = self._decoder
        angles = decoder.rotary_emb(embeddings, window.positions)
        residual, delta = embeddings.flatten(0, 1).clone(), None
        kept: dict[int, Tensor] = {}
        for number, layer in enumerate(decoder.layers):
            attention, mlp, norm = layer.self_attn, layer.mlp, layer.input_layernorm
            normed = add_norm(residual, delta, norm.weight, _epsilon(norm))
            if number in layers:
                kept[number] = residual.clone()
            project, open_gate = self._inputs[number]
            queries, keys, values = project(normed)
            stored, norms = _stored(cache, number, keys, attention), self._head_norms[number]
            queries = rotate_and_store(queries, keys, values, angles, norms, stored, window)
            mixed = attend(queries, stored, window, attention.scaling, self._reach[number])
            norm = layer.post_attention_layernorm
            normed = add_norm(residual, attention.o_proj(mixed), norm.weight, _epsilon(norm))
            delta = mlp.down_proj(gated(*open_gate(normed)))
        norm = decoder.norm
        kept[len(decoder.layers)] = add_norm(residual, delta, norm.weight, _epsilon(norm))
        chosen = [kept[layer] for layer in layers]
        states = chosen[0] if len(chosen) == 1 else torch.cat(chosen, dim=-1)
        return states.view(*embeddings.shape[:2], -1)


def _readers(layer: Any) -> tuple[list[nn.Linear], list[nn.Linear]]:
    """A layer's matrices that read the states before attention, and before the MLP."""
    attention, mlp = layer.self_attn, layer.mlp
    return [attention.q_proj, attention.k_proj, attention.v_proj], [mlp.gate_proj, mlp.up_proj]


def _stored(cache: RowCache, number: int, keys: Tensor, attention: Any) -> tuple[Tensor, Tensor]:
    """Keys and values of a layer, allocated like the new keys [M, kv heads * D] if need be."""
    layer = cache.row_layers[number]
    if not layer.is_initialized:
        heads = keys.reshape(len(keys), -1, attention.head_dim).transpose(0, 1)[None]
        layer.lazy_initialization(heads, heads)
    assert layer.keys is not None and layer.values is not None
    return layer.keys, layer.values


def _epsilon(norm: Any) -> float:
    epsilon: float = norm.variance_epsilon
    return epsilon
