"""Measuring drafts on prompts: acceptance in batches, speed one prompt at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from taskspec.decoding.correction import Correction
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


def decode_timed(
    engine: Engine, prepare: Callable[[], Request], correction: Correction | None = None
) -> Timed:
    """Decode one request at batch 1; `prepare` (routing, say) is inside the clock."""
    started = time.perf_counter()
    generation = engine.generate([prepare()], correction=correction)[0]
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
