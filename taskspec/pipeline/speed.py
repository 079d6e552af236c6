"""Measuring drafts on prompts: acceptance in batches, speed one prompt at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from taskspec.decoding.cost import TargetCost
from taskspec.decoding.engine import Engine
from taskspec.decoding.records import DraftChoice, Generation, Request, StepRecord


@dataclass(frozen=True)
class Timed:
    """One prompt decoded alone.

    Attributes:
        seconds: Wall clock, prefills and routing included.
        generation: The answer and its steps.
    """

    seconds: float
    generation: Generation


def decode_timed(engine: Engine, prepare: Callable[[], Request]) -> Timed:
    """Decode one request at batch 1; `prepare` (routing, say) is inside the clock."""
    started = time.perf_counter()
    generation = engine.generate([prepare()])[0]
    return Timed(time.perf_counter() - started, generation)


def acceptance_steps(
    engine: Engine,
    requests: Sequence[Request],
    choice: DraftChoice | None,
    draft_length: int,
    batch_size: int,
) -> dict[str, tuple[StepRecord, ...]]:
    """Steps of each request when its draft is forced to a length; decoded in batches.

    Returns:
        Steps by request id.
    """
    if choice is None:
        return {request.id: () for request in requests}
    forced = [
        replace(request, draft=replace(choice, draft_length=draft_length)) for request in requests
    ]
    return {result.id: result.steps for result in engine.generate(forced, batch_size)}


@dataclass(frozen=True)
class DraftProfile:
    """What one draft promises on one set of prompts.

    Attributes:
        block_efficiency: tau at each draft length 1, 2, ...
        mean_drafted: Tokens really drafted per step at each draft length.
        mean_attempts: The same and, where a draft ended early, the token it did not propose.
        draft_seconds: Seconds per attempt.
    """

    block_efficiency: tuple[float, ...]
    mean_drafted: tuple[float, ...]
    mean_attempts: tuple[float, ...]
    draft_seconds: float

    def predicted_speedup(self, k: int, cost: TargetCost, overhead: float) -> float:
        """S = tau / (k c + v(k + 1) + o), with what was really drafted at that length."""
        c = self.draft_seconds / cost.seconds[0]
        drafted = self.mean_drafted[k - 1]
        low = int(drafted)
        share = drafted - low
        verify = cost.verify_ratio(low + 1)
        if share > 0:
            verify += share * (cost.verify_ratio(low + 2) - verify)
        return self.block_efficiency[k - 1] / (self.mean_attempts[k - 1] * c + verify + overhead)


def profile(
    steps: Mapping[str, Sequence[StepRecord]], longest: int, draft_seconds: float
) -> DraftProfile | None:
    """Read tau at every draft length off steps drafted at the longest one.

    A step that drafted K tokens and accepted a would, at k <= K, have accepted min(a, k). Steps
    that the end of an answer cut are left out. None when there are no steps.
    """
    whole = [s for each in steps.values() for s in each if s.emitted == s.accepted + 1]
    if not whole:
        return None
    lengths = range(1, longest + 1)
    return DraftProfile(
        tuple(1 + sum(min(s.accepted, k) for s in whole) / len(whole) for k in lengths),
        tuple(sum(min(s.drafted, k) for s in whole) / len(whole) for k in lengths),
        tuple(sum(min(s.drafted + 1, k) for s in whole) / len(whole) for k in lengths),
        draft_seconds,
    )
