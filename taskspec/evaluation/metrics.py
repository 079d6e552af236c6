"""Speculative decoding's measures.

A step is one verification pass: it drafts k_t tokens, accepts a_t of them and emits e_t.
"""

from __future__ import annotations

from collections.abc import Sequence

from taskspec.decoding.records import StepRecord


def block_efficiency(steps: Sequence[StepRecord]) -> float | None:
    """tau: tokens emitted per verification pass, corrections and bonus tokens included.

    The prefill's first token belongs to no step. None without steps.
    """
    return sum(step.emitted for step in steps) / len(steps) if steps else None


def acceptance_rate(steps: Sequence[StepRecord]) -> float | None:
    """Sum of accepted over sum of drafted tokens at the draft lengths in use; None without."""
    drafted = sum(step.drafted for step in steps)
    return sum(step.accepted for step in steps) / drafted if drafted else None


def position_acceptance(steps: Sequence[StepRecord]) -> tuple[float, ...]:
    """u_i: share of the steps that drafted at least i tokens in which at least i stood."""
    longest = max((step.drafted for step in steps), default=0)
    rates = []
    for position in range(1, longest + 1):
        tried = [step for step in steps if step.drafted >= position]
        rates.append(sum(step.accepted >= position for step in tried) / len(tried))
    return tuple(rates)


def draft_accuracy(steps: Sequence[StepRecord]) -> float | None:
    """u_1 of steps decoded with the draft length forced to 4; None when nothing was drafted."""
    return next(iter(position_acceptance(steps)), None)
