"""What drafters propose in the kit's checks, and the distributions in it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from taskspec.interfaces import Proposal, Sampling
from taskspec.testing.exercises import start_row
from taskspec.testing.toy_target import VOCABULARY


def toy_noise(rows: int, width: int, seed: int = 0) -> Tensor:
    """Uniform noise [rows, width]."""
    return torch.rand(rows, width, generator=torch.Generator().manual_seed(seed))


def full_probs(proposal: Proposal, row: int, place: int) -> Tensor:
    """The distribution [V] of one drafted token; one-hot for a deterministic proposal."""
    full = torch.zeros(VOCABULARY)
    if proposal.probs is None:
        full[proposal.tokens[row, place]] = 1
        return full
    columns = torch.arange(VOCABULARY) if proposal.vocabulary is None else proposal.vocabulary
    full[columns.cpu()] = proposal.probs[row, place].float().cpu()
    return full


def first_proposal(built: Any, prompt: list[int], sampling: Sampling) -> Proposal:
    """What is proposed where one token is asked for."""
    start_row(built, 0, prompt, sampling)
    proposal: Proposal = built.propose([0], [1], toy_noise(1, 1))
    built.stop(0)
    return proposal


def first_distribution(built: Any, prompt: list[int], sampling: Sampling) -> Tensor | None:
    """The first drafted token's distribution; None when nothing or nothing random is drafted."""
    proposal = first_proposal(built, prompt, sampling)
    if proposal.probs is None or not proposal.lengths[0]:
        return None
    return full_probs(proposal, 0, 0)
