"""A whole transformers decoder on the compiled kernels, with a KV cache of its own."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor

from taskspec.decoding.native.layers import LANES, is_known, layer_weights
from taskspec.decoding.native.library import address, kernels
from taskspec.decoding.native.linear import Weight
from taskspec.decoding.row_cache import RowCopy
from taskspec.models.attention import sliding_window

_CHUNK = 256
"""Tokens of one pass; longer prompts go in pieces, which changes no result."""
_PROBE, _TOLERANCE = 24, 0.1


class _Layer(ctypes.Structure):
    _fields_ = [
        *[(name, Weight) for name in ("qkv", "out", "gate_up", "down")],
        *[(name, ctypes.c_void_p) for name in ("qkv_bias", "input_norm", "mlp_norm")],
        *[(name, ctypes.c_void_p) for name in ("query_norm", "key_norm", "keys", "values")],
        ("window", ctypes.c_int32),
    ]


class _Decoder(ctypes.Structure):
    _fields_ = [
        *[(name, ctypes.c_int32) for name in ("layers", "hidden", "heads", "kv_heads")],
        *[(name, ctypes.c_int32) for name in ("head", "intermediate", "length")],
        *[(name, ctypes.c_float) for name in ("epsilon", "scale")],
        *[(name, ctypes.c_void_p) for name in ("cosines", "sines", "final_norm")],
        ("layer", ctypes.POINTER(_Layer)),
    ]


class Pass(ctypes.Structure):
    """The kernels' `Pass`; `held` keeps its tensors alive."""

    held: tuple[Tensor | None, ...]
    _fields_ = [
        *[(name, ctypes.c_int32) for name in ("tokens", "threads", "kept")],
        *[(name, ctypes.c_void_p) for name in ("rows", "positions", "keep", "residual")],
        *[(name, ctypes.c_void_p) for name in ("states", "projected", "mixed", "inner")],
    ]


class NativeDecoder:
    """Runs a decoder of the llama family (llama, qwen2, qwen3, mistral, ...) from packed weights.

    A token's state depends on its row's text alone: not on the tokens of the pass, the rows
    beside it, or where a prompt was cut into pieces.

    Args:
        decoder: What `of` accepted.
        rows: Rows to make room for at first.
        length: Positions to make room for at first.
        int8: Keep the matrices in a byte per weight.
    """

    def __init__(self, decoder: Any, rows: int, length: int, int8: bool = False) -> None:
        self._rotary, self._norm = decoder.rotary_emb, decoder.norm
        self._weights = [layer_weights(layer, int8) for layer in decoder.layers]
        attention, mlp = decoder.layers[0].self_attn, decoder.layers[0].mlp
        self.hidden, self.head = decoder.norm.weight.shape[0], attention.head_dim
        self.heads = attention.q_proj.weight.shape[0] // self.head
        self.kv_heads = attention.k_proj.weight.shape[0] // self.head
        self.intermediate = mlp.gate_proj.weight.shape[0]
        self.final_norm = decoder.norm.weight.detach().float().contiguous()
        self._structs = (_Layer * len(self._weights))(
            *[
                _Layer(
                    **{name: weight.place() for name, weight in matrices.items()},
                    **{name: address(vector) for name, vector in vectors.items()},
                )
                for matrices, vectors in self._weights
            ]
        )
        window = sliding_window(decoder.config)
        kinds = getattr(decoder.config, "layer_types", None) or ["sliding_attention"] * len(
            self._weights
        )
        for struct, kind in zip(self._structs, kinds, strict=False):
            struct.window = window if window and kind == "sliding_attention" else 0
        self.structure = _Decoder(
            layers=len(self._weights),
            hidden=self.hidden,
            heads=self.heads,
            kv_heads=self.kv_heads,
            head=self.head,
            intermediate=self.intermediate,
            epsilon=decoder.norm.variance_epsilon,
            scale=attention.scaling,
            final_norm=address(self.final_norm),
            layer=self._structs,
        )
        self.keys = self.values = torch.empty(0)
        self.lengths: list[int] = []
        self._rows = self._length = 0
        self.reserve(rows, length)

    @classmethod
    def of(cls, decoder: Any, rows: int, length: int, int8: bool = False) -> Self | None:
        """The decoder on the kernels, or None where they do not apply.

        They apply to bf16 decoders on a CPU whose layers are made of the parts known here and
        whose states on a probe the kernels reproduce.

        Args:
            decoder: A transformers decoder.
            rows: Rows to make room for at first.
            length: Positions to make room for at first.
            int8: Keep the matrices in a byte per weight; its states differ by that rounding.
        """
        if kernels() is None or not is_known(decoder):
            return None
        made = cls(decoder, 1, _PROBE)
        generator = torch.Generator().manual_seed(0)
        probe = torch.randn(1, _PROBE, made.hidden, generator=generator).mul(0.1)
        with torch.inference_mode():
            expected = decoder(inputs_embeds=probe.bfloat16(), use_cache=False).last_hidden_state
            found = made.run([0], probe.bfloat16(), [_PROBE])[:, :, 0]
        # Rounding alone can carry single tokens far in bf16; another architecture carries all.
        wrong = (found.float() - expected.float()).norm(dim=-1)
        if not bool((wrong / expected.float().norm(dim=-1)).median() < _TOLERANCE):
            return None
        if int8:
            return cls(decoder, rows, length, int8)
        made.lengths[0] = 0
        made.reserve(rows, length)
        return made

    def reserve(self, rows: int, length: int) -> None:
        """Make room for `rows` rows of `length` positions, growing by doubling."""
        if rows <= self._rows and length <= self._length:
            return
        new_rows = rows if rows <= self._rows else max(rows, 2 * self._rows)
        new_length = length if length <= self._length else max(length, 2 * self._length)
        old_rows, old_length = self._rows, self._length
        self._rows = max(new_rows, old_rows)
        self._length = -(-max(new_length, old_length) // LANES) * LANES
        shape = (len(self._weights), self._rows, self.kv_heads, self._length // LANES)
        keys = torch.zeros(*shape, self.head // 2, LANES, 2, dtype=torch.bfloat16)
        values = torch.zeros(*shape, LANES, self.head, dtype=torch.bfloat16)
        if old_rows:
            blocks = old_length // LANES
            keys[:, :old_rows, :, :blocks] = self.keys
            values[:, :old_rows, :, :blocks] = self.values
        self.keys, self.values = keys, values
        for struct, key, value in zip(self._structs, keys, values, strict=True):
            struct.keys, struct.values = address(key), address(value)
        self.lengths.extend([0] * (self._rows - len(self.lengths)))
        angles = self._rotary(torch.zeros(1), torch.arange(self._length)[None])
        self.cosines, self.sines = (table[0].float().contiguous() for table in angles)
        self.structure.length = self._length
        self.structure.cosines, self.structure.sines = address(self.cosines), address(self.sines)

    def copy_of(self, row: int) -> RowCopy:
        """A copy of what a row holds."""
        length = self.lengths[row]
        blocks = -(-length // LANES)
        keys, values = (kept[:, row, :, :blocks].clone() for kept in (self.keys, self.values))
        return RowCopy(length, (keys,), (values,))

    def restore(self, row: int, copy: RowCopy) -> None:
        """Let an empty row hold what was copied."""
        self.reserve(row + 1, copy.length)
        for kept, (copied,) in ((self.keys, copy.keys), (self.values, copy.values)):
            kept[:, row, :, : copied.shape[2]] = copied
        self.lengths[row] = copy.length

    def run(
        self,
        rows: Sequence[int],
        embeddings: Tensor,
        counts: Sequence[int],
        earlier: Sequence[int] = (),
    ) -> Tensor:
        """Append tokens to rows and run the decoder over them.

        Args:
            rows: B row numbers.
            embeddings: bf16 [B, T, H]; row b's first counts[b] are real, the rest padding.
            counts: Real tokens of each row. The rows' lengths grow by these.
            earlier: Ascending numbers of layers whose inputs are wanted too.

        Returns:
            bf16 [B, T, 1 + len(earlier), H]: the final normalised state, then the inputs of those
            layers; zeros at padding.
        """
        batch, width = embeddings.shape[:2]
        self.reserve(max(rows) + 1, 0)
        starts = [self.lengths[row] for row in rows]
        self.reserve(0, max(start + count for start, count in zip(starts, counts, strict=True)))
        places = torch.arange(width, dtype=torch.int32)
        positions = torch.tensor(starts, dtype=torch.int32)[:, None] + places
        row_of = torch.tensor(rows, dtype=torch.int32)[:, None].expand(batch, width)
        shape = (batch, width, 1 + len(earlier), self.hidden)
        keep = torch.tensor(earlier, dtype=torch.int32)
        whole = all(count == width for count in counts)
        real = None if whole else places < torch.tensor(counts)[:, None]

        def flat(tensor: Tensor) -> Tensor:
            return tensor.flatten(0, 1).contiguous() if real is None else tensor[real]

        residual, row_of, positions = flat(embeddings).float(), flat(row_of), flat(positions)
        states = torch.empty(len(residual), *shape[2:], dtype=torch.bfloat16)
        # One row's pieces follow one another; a token's keys are there before it attends.
        for start in range(0, len(residual), _CHUNK):
            part = slice(start, start + _CHUNK)
            self._run_chunk(residual[part], row_of[part], positions[part], keep, states[part])
        for row, count in zip(rows, counts, strict=True):
            self.lengths[row] += count
        if real is None:
            return states.view(shape)
        padded = states.new_zeros(shape)
        padded[real] = states
        return padded

    def pass_over(
        self,
        rows: Sequence[int],
        starts: Sequence[int],
        embeddings: Tensor,
        counts: Sequence[int],
    ) -> Pass:
        """A pass that appends tokens to rows, which have room for them.

        Args:
            rows: B row numbers.
            starts: Position of each row's first token.
            embeddings: bf16 [B, T, H]; row b's first counts[b] are real, the rest padding.
            counts: Real tokens of each row.
        """
        places = [
            (row, start + place, index, place)
            for index, (row, start, count) in enumerate(zip(rows, starts, counts, strict=True))
            for place in range(count)
        ]
        row_of, positions, index, place = torch.tensor(places, dtype=torch.int32).t().contiguous()
        residual = embeddings[index, place].float()
        states = torch.empty(len(places), 1, self.hidden, dtype=torch.bfloat16)
        return self.open_pass(residual, row_of, positions, states)

    def _run_chunk(
        self, residual: Tensor, rows: Tensor, positions: Tensor, keep: Tensor, states: Tensor
    ) -> None:
        library = kernels()
        assert library is not None
        given = self.open_pass(residual, rows, positions, states, keep)
        library.run_pass(ctypes.byref(self.structure), ctypes.byref(given))

    def open_pass(
        self,
        residual: Tensor,
        rows: Tensor,
        positions: Tensor,
        states: Tensor,
        keep: Tensor | None = None,
    ) -> Pass:
        """What the kernels need for M tokens: where each belongs, and room to work in.

        Args:
            residual: float32 [M, H], overwritten.
            rows: int32 [M].
            positions: int32 [M].
            states: bf16 [M, 1 + len(keep), H], written.
            keep: int32, ascending layers whose inputs to keep.
        """
        tokens = len(residual)
        projected = torch.empty(tokens, (self.heads + 2 * self.kv_heads) * self.head)
        mixed = torch.empty(tokens, self.heads * self.head, dtype=torch.bfloat16)
        inner = torch.empty(tokens, self.intermediate, dtype=torch.bfloat16)
        given = Pass(
            tokens=tokens,
            threads=torch.get_num_threads(),
            kept=0 if keep is None else len(keep),
            rows=address(rows),
            positions=address(positions),
            keep=address(keep),
            residual=address(residual),
            states=address(states),
            projected=address(projected),
            mixed=address(mixed),
            inner=address(inner),
        )
        given.held = (residual, rows, positions, states, keep, projected, mixed, inner)
        return given
