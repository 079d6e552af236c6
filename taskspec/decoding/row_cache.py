"""A preallocated KV cache whose rows have lengths of their own.

Rolling a row back is setting its length: nothing is copied, and entries past the length are
overwritten before anything attends to them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin


@dataclass(frozen=True)
class RowCopy:
    """Keys and values of a row's first positions, which another row may go on from.

    Attributes:
        length: Positions.
        keys: As the cache that made the copy keeps them, and it alone can read them.
        values: Likewise.
    """

    length: int
    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]


@dataclass
class Window:
    """Where one forward pass writes, shared by the layers of a cache.

    Attributes:
        rows: Row numbers of the pass, B of them.
        row_index: int64 [B, 1], the same.
        positions: int64 [B, T], cache positions of the pass's tokens.
        end: Largest written position plus one; keys up to there are attended.
        bound: Whether `end` is only a bound of that.
        last: int64 [B, 1], each row's last position that is not padding; None where none is.
    """

    rows: tuple[int, ...]
    row_index: Tensor
    positions: Tensor
    end: int
    bound: bool = False
    last: Tensor | None = None

    @property
    def told(self) -> Tensor:
        """int64 [B, T], positions as the decoder is told them: padding repeats the last real one.

        A row may end where the model's positions end. Beyond, some models fail, and some turn all
        rows of the pass in another way.
        """
        return self.positions if self.last is None else torch.minimum(self.positions, self.last)

    @property
    def contiguous(self) -> bool:
        """Whether the rows are neighbours in order, so that a view serves."""
        return self.rows == tuple(range(self.rows[0], self.rows[0] + len(self.rows)))


class RowLayer(CacheLayerMixin):  # type: ignore[no-untyped-call]
    """Keys and values of one layer, float [rows, heads, length, head size]."""

    def __init__(self, rows: int, length: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.rows, self.length = rows, length
        self.window: Window | None = None

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Allocate once the head count and sizes are known."""
        for name, states in (("keys", key_states), ("values", value_states)):
            shape = (self.rows, states.shape[1], self.length, states.shape[3])
            setattr(self, name, states.new_zeros(shape))
        self.is_initialized = True

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Write a pass's keys and values; return all that its rows may attend to."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        assert self.keys is not None and self.values is not None and self.window is not None
        return self._write(self.keys, key_states), self._write(self.values, value_states)

    def _write(self, store: Tensor, states: Tensor) -> Tensor:
        window = self.window
        assert window is not None
        first, count = window.rows[0], len(window.rows)
        if count == 1 and not window.bound:
            start = window.end - states.shape[2]
            store[first, :, start : window.end] = states[0]
            return store[first : first + 1, :, : window.end]
        store[window.row_index, :, window.positions] = states.transpose(1, 2)
        if window.contiguous:
            return store[first : first + count, :, : window.end]
        return store[window.row_index[:, 0], :, : window.end]

    def copied(self, row: int, length: int) -> tuple[Tensor, Tensor]:
        """A row's first keys and values, each [heads, length, head size]."""
        assert self.keys is not None and self.values is not None
        return self.keys[row, :, :length].clone(), self.values[row, :, :length].clone()

    def put(self, row: int, keys: Tensor, values: Tensor) -> None:
        """Write what `copied` gave as a row's first keys and values."""
        assert self.keys is not None and self.values is not None
        self.keys[row, :, : keys.shape[1]] = keys
        self.values[row, :, : values.shape[1]] = values

    def grow(self, rows: int, length: int) -> None:
        """Reallocate for more rows or longer ones, keeping what is there."""
        for name in ("keys", "values"):
            old: Tensor | None = getattr(self, name)
            if old is not None:
                new = old.new_zeros((rows, old.shape[1], length, old.shape[3]))
                new[: old.shape[0], :, : old.shape[2]] = old
                setattr(self, name, new)
        self.rows, self.length = rows, length

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Keys of the pass and their offset."""
        assert self.window is not None
        return self.window.end, 0

    def get_seq_length(self) -> int:
        """Keys of the pass in progress."""
        return 0 if self.window is None else self.window.end

    def get_max_length(self) -> int:
        """Positions a row can hold."""
        return self.length


class RowCache(Cache):
    """Row layers under one set of per-row lengths.

    Attributes:
        lengths: Valid cache positions of each row.
    """

    def __init__(self, layers: int, rows: int, length: int) -> None:
        self.row_layers = [RowLayer(rows, length) for _ in range(layers)]
        super().__init__(layers=list(self.row_layers))
        self.lengths = [0] * rows

    def reserve(self, rows: int, length: int) -> None:
        """Make room for `rows` rows of `length` positions, growing by doubling."""
        layer = self.row_layers[0]
        if rows > layer.rows or length > layer.length:
            new_rows = rows if rows <= layer.rows else max(rows, 2 * layer.rows)
            new_length = length if length <= layer.length else max(length, 2 * layer.length)
            new_rows, new_length = max(new_rows, layer.rows), max(new_length, layer.length)
            for each in self.row_layers:
                each.grow(new_rows, new_length)
            self.lengths.extend([0] * (new_rows - len(self.lengths)))

    def copy_of(self, row: int) -> RowCopy:
        """A copy of what a row holds, at least one position."""
        length = self.lengths[row]
        keys, values = zip(*(layer.copied(row, length) for layer in self.row_layers), strict=True)
        return RowCopy(length, keys, values)

    def restore(self, row: int, copy: RowCopy) -> None:
        """Let an empty row hold what was copied."""
        self.reserve(row + 1, copy.length)
        for layer, keys, values in zip(self.row_layers, copy.keys, copy.values, strict=True):
            layer.put(row, keys, values)
        self.lengths[row] = copy.length

    def open(
        self,
        rows: Sequence[int],
        width: int,
        device: torch.device,
        counts: Sequence[int] | None = None,
    ) -> Window:
        """Prepare a pass of `width` tokens per row, written after each row's valid length.

        Args:
            rows: Row numbers.
            width: Tokens of each, padding included.
            device: Where they are.
            counts: Real tokens of each row; None when all are.
        """
        self.reserve(max(rows) + 1, 0)
        starts = [self.lengths[row] for row in rows]
        end = max(starts) + width
        self.reserve(0, end)
        row_index = torch.tensor(rows, device=device)[:, None]
        positions = torch.tensor(starts, device=device)[:, None] + torch.arange(
            width, device=device
        )
        last = None
        if counts is not None and min(counts) < width:
            ends = [start + count - 1 for start, count in zip(starts, counts, strict=True)]
            last = torch.tensor(ends, device=device)[:, None]
        window = Window(tuple(rows), row_index, positions, end, last=last)
        self.at(window)
        return window

    def at(self, window: Window) -> None:
        """Let the next pass write at a window, for which there is room."""
        for layer in self.row_layers:
            layer.window = window
