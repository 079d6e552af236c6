"""Texts, noise and comparisons for tests of drafts."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from taskspec.interfaces import Proposal, Sampling

SAMPLED = Sampling(1.0)


def text(length: int, first: int = 3) -> list[int]:
    return [2 + (first + 11 * index * index) % 92 for index in range(length)]


def noise(rows: int, k: int, seed: int = 0) -> Tensor:
    return torch.rand(rows, k, generator=torch.Generator().manual_seed(seed))


def proposed(proposal: Proposal, row: int = 0) -> list[int]:
    return proposal.tokens[row, : int(proposal.lengths[row])].tolist()


def check_same(one: Proposal, other: Proposal, rows: Sequence[int] = (0,)) -> None:
    """Row i of the first is row rows[i] of the other, tokens and distributions."""
    assert one.probs is not None and other.probs is not None
    for mine, theirs in enumerate(rows):
        tokens = proposed(one, mine)
        assert tokens and tokens == proposed(other, theirs)
        ours, expected = one.probs[mine, : len(tokens)], other.probs[theirs, : len(tokens)]
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)
