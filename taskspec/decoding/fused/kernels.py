"""Triton kernels; `operators` says what each computes.

Sums are float32, and so is what happens between a load and a store but for norms and gates, which
round where transformers does. Types are Triton's: addresses and numbers at run time, `tl.constexpr`
when compiled.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _normed(wide, weight, places, inside, epsilon, width):
    factor = tl.load(weight + places, mask=inside, other=0.0)
    scale = tl.rsqrt(tl.sum(wide * wide) / width + epsilon)
    return (wide * scale).to(factor.dtype).to(tl.float32) * factor.to(tl.float32)


@triton.jit
def add_norm(
    residual, delta, weight, normed, epsilon, width, ADDS: tl.constexpr, BLOCK: tl.constexpr
):
    """One token: the residual stream with what is added to it, and its norm."""
    row, places = tl.program_id(0).to(tl.int64), tl.arange(0, BLOCK)
    inside = places < width
    at = row * width + places
    state = tl.load(residual + at, mask=inside, other=0.0)
    wide = state.to(tl.float32)
    if ADDS:
        wide += tl.load(delta + at, mask=inside, other=0.0).to(tl.float32)
        wide = wide.to(state.dtype).to(tl.float32)
        tl.store(residual + at, wide, mask=inside)
    tl.store(normed + at, _normed(wide, weight, places, inside, epsilon, width), mask=inside)


@triton.jit
def _head(start, places, inside, norm, epsilon, size, NORMS: tl.constexpr):
    wide = tl.load(start + places, mask=inside, other=0.0).to(tl.float32)
    if NORMS:
        wide = _normed(wide, norm, places, inside, epsilon, size)
    return wide


@triton.jit
def rotate(
    queries, keys, values, cosines, sines, query_norm, key_norm, epsilon, rows, positions,
    rotated, stored_keys, stored_values, row_stride, head_stride, query_stride, key_stride,
    tokens, heads, kv_heads, size,
    NORMS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One head of one token: a query that turns, or a key and a value that are stored."""
    token, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    places, half = tl.arange(0, BLOCK), size // 2
    inside = places < size
    other = tl.where(places < half, places + half, places - half)
    sign = tl.where(places < half, -1.0, 1.0)
    cosine = tl.load(cosines + token * size + places, mask=inside, other=0.0).to(tl.float32)
    sine = tl.load(sines + token * size + places, mask=inside, other=0.0).to(tl.float32)
    if head < heads:
        start = queries + token * query_stride + head * size
        straight = _head(start, places, inside, query_norm, epsilon, size, NORMS)
        crossed = _head(start, other, inside, query_norm, epsilon, size, NORMS)
        turned = straight * cosine + sign * crossed * sine
        tl.store(rotated + (token * heads + head) * size + places, turned, mask=inside)
    else:
        own = head - heads
        row = tl.load(rows + token // tokens)
        place = row * row_stride + own * head_stride + tl.load(positions + token) * size
        start = keys + token * key_stride + own * size
        straight = _head(start, places, inside, key_norm, epsilon, size, NORMS)
        crossed = _head(start, other, inside, key_norm, epsilon, size, NORMS)
        turned = straight * cosine + sign * crossed * sine
        tl.store(stored_keys + place + places, turned, mask=inside)
        given = tl.load(values + token * key_stride + own * size + places, mask=inside)
        tl.store(stored_values + place + places, given, mask=inside)


@triton.jit
def attend(
    queries, keys, values, rows, positions, mixed, weights, scale, window, row_stride,
    head_stride, tokens, heads, size, part,
    GROUP: tl.constexpr, QUERIES: tl.constexpr, KEYS: tl.constexpr, BLOCK: tl.constexpr,
    PARTS: tl.constexpr,
):  # fmt: skip
    """Queries of one row that share a head of keys, over one part of the keys."""
    blocks = tl.cdiv(tokens * GROUP, QUERIES)
    batch, block = tl.program_id(0) // blocks, tl.program_id(0) % blocks
    own, piece = tl.program_id(1), tl.program_id(2)
    number = block * QUERIES + tl.arange(0, QUERIES)
    real = number < tokens * GROUP
    token = batch.to(tl.int64) * tokens + number // GROUP
    head = own * GROUP + number % GROUP
    places = tl.arange(0, BLOCK)
    inside = places < size
    at = (token * heads + head)[:, None] * size + places[None, :]
    query = tl.load(queries + at, mask=real[:, None] & inside[None, :], other=0.0)
    position = tl.load(positions + token, mask=real, other=0)
    start = tl.load(rows + batch) * row_stride + own * head_stride
    highest = tl.full([QUERIES], -float("inf"), tl.float32)
    total = tl.zeros([QUERIES], tl.float32)
    result = tl.zeros([QUERIES, BLOCK], tl.float32)
    first = piece * part
    last = tl.minimum(first + part, tl.max(position) + 1)
    for begin in range(first, last, KEYS):
        key = begin + tl.arange(0, KEYS)
        there = (key < last)[:, None] & inside[None, :]
        spot = start + key[:, None].to(tl.int64) * size + places[None, :]
        near = tl.load(keys + spot, mask=there, other=0.0)
        score = tl.dot(query, tl.trans(near), input_precision="ieee") * scale
        seen = (key[None, :] <= position[:, None]) & (key < last)[None, :]
        seen = seen & (key[None, :] > position[:, None] - window)
        score = tl.where(seen, score, -float("inf"))
        peak = tl.maximum(highest, tl.max(score, 1))
        safe = tl.where(peak == -float("inf"), 0.0, peak)
        chance = tl.exp(score - safe[:, None])
        fade = tl.exp(highest - safe)
        total = total * fade + tl.sum(chance, 1)
        held = tl.load(values + spot, mask=there, other=0.0)
        update = tl.dot(chance.to(held.dtype), held, input_precision="ieee")
        result = result * fade[:, None] + update
        highest = peak
    divisor = tl.where(total == 0.0, 1.0, total)
    result = result / divisor[:, None]
    stored = real[:, None] & inside[None, :]
    if PARTS == 1:
        tl.store(mixed + at, result, mask=stored)
    else:
        slot = (token * heads + head) * PARTS + piece
        tl.store(mixed + slot[:, None] * size + places[None, :], result, mask=stored)
        weight = tl.where(total == 0.0, -float("inf"), highest + tl.log(divisor))
        tl.store(weights + slot, weight, mask=real)


@triton.jit
def join(pieces, weights, mixed, size, PARTS: tl.constexpr, BLOCK: tl.constexpr):
    """One head of one token: the parts' values by the weight of their keys."""
    slot, part, places = tl.program_id(0).to(tl.int64), tl.arange(0, PARTS), tl.arange(0, BLOCK)
    inside = places < size
    weight = tl.load(weights + slot * PARTS + part)
    peak = tl.max(weight)
    share = tl.exp(weight - tl.where(peak == -float("inf"), 0.0, peak))
    whole = tl.sum(share)
    share = share / tl.where(whole == 0.0, 1.0, whole)
    at = (slot * PARTS + part)[:, None] * size + places[None, :]
    piece = tl.load(pieces + at, mask=inside[None, :], other=0.0)
    result = tl.sum(piece * share[:, None], 0)
    tl.store(mixed + slot * size + places, result, mask=inside)


@triton.jit
def gate(gate, up, inner, stride, width, BLOCK: tl.constexpr):
    """Some values of one token's MLP."""
    token = tl.program_id(0).to(tl.int64)
    place = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = place < width
    given = tl.load(gate + token * stride + place, mask=inside, other=0.0)
    wide = given.to(tl.float32)
    opened = (wide / (1.0 + tl.exp(-wide))).to(given.dtype).to(tl.float32)
    rest = tl.load(up + token * stride + place, mask=inside, other=0.0).to(tl.float32)
    tl.store(inner + token * width + place, opened * rest, mask=inside)
