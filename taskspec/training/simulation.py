"""What a draft would do in the engine, told from one pass over stored answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

SIMULATED_LENGTH = 4
"""Draft length of simulations; draft accuracy is measured at it too (metrics.md)."""


@dataclass(frozen=True)
class SimulatedStep:
    """One verification pass, as the engine would record it.

    Attributes:
        drafted: Tokens drafted.
        accepted: Drafted tokens that the answer has too.
        emitted: Tokens emitted: the accepted ones and one more, fewer where the answer ends.
    """

    drafted: int
    accepted: int
    emitted: int


def simulate_answer(
    agrees: Sequence[Tensor], draft_length: int, room: int, ended: Sequence[int] = ()
) -> list[SimulatedStep]:
    """Walk one answer greedily, as draft and target would write it.

    The answer's first token comes from the prompt's pass and belongs to no step.

    Args:
        agrees: For each place in a draft bool [A]: whether the draft's likeliest token, drafted
            there, is answer token i.
        draft_length: Tokens drafted per step, at most as many as there are places.
        room: Tokens that the answer might have had; near them drafts get shorter.
        ended: Tokens that the first steps drafted at most, for a draft that may end early.
    """
    rows = [each.tolist() for each in agrees]
    length = len(rows[0])
    steps: list[SimulatedStep] = []
    known = 1
    while known < length:
        most = ended[len(steps)] if len(steps) < len(ended) else draft_length
        drafted = max(0, min(draft_length, room - known - 1, most))
        accepted = 0
        while accepted < min(drafted, length - known) and rows[accepted][known + accepted]:
            accepted += 1
        emitted = min(accepted + 1, length - known)
        steps.append(SimulatedStep(drafted, min(accepted, emitted), emitted))
        known += emitted
    return steps


def simulate_batch(
    agrees: Sequence[Tensor], counts: Sequence[int], draft_length: int
) -> Iterator[list[SimulatedStep]]:
    """Walk the answers of a batch, each as if it had just the room it took.

    Args:
        agrees: For each place in a draft bool [M] over the batch's trained positions.
        counts: Answer tokens of each text, M in all.
        draft_length: Tokens drafted per step.
    """
    by_place = [torch.split(each.cpu(), list(counts)) for each in agrees]
    for own in zip(*by_place, strict=True):
        yield simulate_answer(own, draft_length, room=len(own[0]))
