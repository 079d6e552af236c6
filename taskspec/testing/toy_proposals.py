"""What drafters propose in the kit's checks, and the distributions in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from taskspec.interfaces import Proposal, Sampling
from taskspec.testing.check import require
from taskspec.testing.exercises import exercise_of, start_row
from taskspec.testing.toy_target import VOCABULARY, states, toy_target

_TOLERANCE = 1e-4


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


def built_anew(drafter: Any) -> Any:
    """A drafter of the same class and options, built for the toy target."""
    return exercise_of(drafter).prepare(drafter)


def commit_emitted(
    built: Any, rows: Sequence[int], texts: Sequence[list[int]], emitted: Sequence[list[int]]
) -> None:
    """Commit as the engine does: padded tokens, counts, and the target's states if wanted.

    Args:
        built: The drafter.
        rows: Row numbers.
        texts: What was known of each row before.
        emitted: What came then.
    """
    width = max(map(len, emitted))
    tokens = torch.zeros(len(rows), width, dtype=torch.int64)
    for index, each in enumerate(emitted):
        tokens[index, : len(each)] = torch.tensor(each)
    hidden = None
    if built.hidden_layers:
        hidden = torch.zeros(len(rows), width, len(built.hidden_layers) * toy_target().hidden_size)
        for index, (text, each) in enumerate(zip(texts, emitted, strict=True)):
            known = states(toy_target(), [*text, *each[:-1]], built.hidden_layers)
            hidden[index, : len(each)] = known[len(text) - 1 :]
    built.commit(list(rows), tokens, torch.tensor([len(each) for each in emitted]), hidden)


def same(one: Proposal, other: Proposal) -> bool:
    """Whether two proposals hold the same tokens, of the same distributions."""
    if not torch.equal(one.lengths, other.lengths):
        return False
    places = [(row, n) for row, count in enumerate(one.lengths.tolist()) for n in range(count)]
    return all(
        one.tokens[place] == other.tokens[place]
        and torch.allclose(full_probs(one, *place), full_probs(other, *place), atol=_TOLERANCE)
        for place in places
    )


def require_equal(one: Proposal, other: Proposal, message: str) -> None:
    """Raise unless two proposals hold the same tokens, of the same distributions.

    Raises:
        ContractError: With the message.
    """
    require(same(one, other), message)
