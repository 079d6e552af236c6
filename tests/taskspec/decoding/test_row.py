"""One request's state."""

from __future__ import annotations

import torch

from taskspec.decoding.records import Request
from taskspec.decoding.row import Row


def test_what_is_kept_of_every_step_lies_in_one_block() -> None:
    """Small pieces between the large ones of every step would let the process grow."""
    row = Row(Request("0", (5, 6), 6), 0, frozenset({1}), 100)
    states, normalizers = torch.randn(4, 3), torch.randn(4)
    row.keep(states[:1], normalizers[:1])
    row.emit([7])
    assert row.hidden is not None
    block = row.hidden.data_ptr()
    row.emit([8, 9, 1])
    row.keep(states[1:], normalizers[1:])
    assert row.hidden.data_ptr() == block
    made = row.result()
    assert made.hidden is not None and made.log_normalizer is not None
    assert made.hidden.equal(states) and made.log_normalizer.equal(normalizers)
