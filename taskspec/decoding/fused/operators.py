"""What a layer does between its matrix products.

A pass over few tokens launches hundreds of kernels that each touch a few kilobytes; their number is
its cost, replayed as a graph or not.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
from torch import Tensor

from taskspec.decoding.fused import kernels
from taskspec.decoding.row_cache import Window

_KEYS = 64
"""Keys that a program scores at once."""
_QUERIES = 64
"""Queries that a program answers at most."""
_LEAST_QUERIES = 16
_VALUES = 1024
"""Values that a program of an elementwise kernel treats."""
_PROGRAMS = 256
"""Programs that keep a GPU busy: long texts are split until there are so many."""


def add_norm(residual: Tensor, delta: Tensor | None, weight: Tensor, epsilon: float) -> Tensor:
    """Add to the residual stream [M, H] in place; its root-mean-square norm, [M, H].

    Args:
        residual: Contiguous, overwritten with the sum.
        delta: [M, H] to add; None leaves the residual as it is.
        weight: [H].
        epsilon: Added to the mean square.
    """
    normed, width = torch.empty_like(residual), residual.shape[-1]
    given = residual if delta is None else delta
    kernels.add_norm[(len(residual),)](
        residual, given, weight, normed, epsilon, width, delta is not None, _above(width)
    )
    return normed


@dataclass(frozen=True)
class HeadNorms:
    """Norms of each head's queries and keys before they turn (qwen3).

    Attributes:
        query: [D].
        key: [D].
        epsilon: Added to the mean square.
    """

    query: Tensor
    key: Tensor
    epsilon: float


def rotate_and_store(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    angles: tuple[Tensor, Tensor],
    norms: HeadNorms | None,
    stored: tuple[Tensor, Tensor],
    window: Window,
) -> Tensor:
    """Turn queries and keys by their positions; keep keys and values where the window says.

    Args:
        queries: [M, heads * D], M = B * T tokens, row after row; may be columns of a wider matrix.
        keys: [M, kv heads * D], likewise.
        values: The same, of the same strides.
        angles: Cosines and sines, [B, T, D].
        norms: Norms of heads, for models that have them.
        stored: Keys and values of a cache, [rows, kv heads, length, D] each.
        window: Where the tokens belong.

    Returns:
        The turned queries [M, heads * D].
    """
    cache, size = stored[0], stored[0].shape[3]
    heads, kv_heads = queries.shape[1] // size, keys.shape[1] // size
    rotated = queries.new_empty(queries.shape)
    own = queries if norms is None else norms.query
    kernels.rotate[(len(queries), heads + kv_heads)](
        queries, keys, values, *angles, own, own if norms is None else norms.key,
        0.0 if norms is None else norms.epsilon, window.row_index, window.positions,
        rotated, *stored, cache.stride(0), cache.stride(1), queries.stride(0), keys.stride(0),
        window.positions.shape[1],
        heads, kv_heads, size, norms is not None, _above(size),
    )  # fmt: skip
    return rotated


def attend(
    queries: Tensor, stored: tuple[Tensor, Tensor], window: Window, scale: float, reach: int | None
) -> Tensor:
    """Mix the values of all keys up to each query's position, [M, heads * D].

    Args:
        queries: [M, heads * D].
        stored: Keys and values of a cache, [rows, kv heads, length, D] each.
        window: Where the queries' tokens are.
        scale: Of the products.
        reach: Keys that a query sees at most, its own included; None for all.
    """
    keys = stored[0]
    kv_heads, size = keys.shape[1], keys.shape[3]
    batch, tokens = window.positions.shape
    heads = queries.shape[1] // size
    group = heads // kv_heads
    together = min(_QUERIES, max(_LEAST_QUERIES, _above(tokens * group)))
    programs = batch * triton.cdiv(tokens * group, together)
    parts = 1
    while parts < window.end // (2 * _KEYS) and parts * programs * kv_heads < _PROGRAMS:
        parts *= 2
    mixed = torch.empty_like(queries)
    pieces, weights = mixed, mixed
    if parts > 1:
        pieces = queries.new_empty(len(queries), heads, parts, size, dtype=torch.float32)
        weights = pieces.new_empty(len(queries), heads, parts)
    kernels.attend[(programs, kv_heads, parts)](
        queries, *stored, window.row_index, window.positions, pieces, weights, scale,
        window.end + 1 if reach is None else reach, keys.stride(0), keys.stride(1), tokens,
        heads, size, triton.cdiv(window.end, parts), group, together, _KEYS,
        max(_LEAST_QUERIES, _above(size)), parts,
    )  # fmt: skip
    if parts > 1:
        kernels.join[(len(queries) * heads,)](pieces, weights, mixed, size, parts, _above(size))
    return mixed


def gated(gate: Tensor, up: Tensor) -> Tensor:
    """SiLU of the gate [M, I] times the rest, elementwise; both of the same strides."""
    inner, (tokens, width) = gate.new_empty(gate.shape), gate.shape
    grid = (tokens, triton.cdiv(width, _VALUES))
    kernels.gate[grid](gate, up, inner, gate.stride(0), width, _VALUES)
    return inner


def _above(count: int) -> int:
    """The smallest power of two that is not smaller."""
    power: int = triton.next_power_of_2(count)
    return power
