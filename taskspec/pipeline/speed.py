"""Measuring drafts on prompts: acceptance in batches, speed one prompt at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from taskspec.decoding.correction import Correction
from taskspec.decoding.engine import Engine
from taskspec.decoding.records import DraftChoice, Generation, Request, StepRecord


@dataclass(frozen=True)
class Timed:
    """One prompt decoded alone.

    Attributes:
        seconds: Wall clock, prefills and routing included.
        first: Of these, until the first token was there.
        generation: The answer and its steps.
    """

    seconds: float
    first: float
    generation: Generation


def decode_timed(
    engine: Engine, prepare: Callable[[], Request], correction: Correction | None = None
) -> Timed:
    """Decode one request at batch 1; `prepare` (routing, say) is inside the clock."""
    emitted: list[float] = []
    started = time.perf_counter()
    generation = engine.generate(
        [prepare()],
        on_emit=lambda *_: emitted.append(time.perf_counter()),
        correction=correction,
    )[0]
    return Timed(time.perf_counter() - started, emitted[0] - started, generation)


def acceptance_steps(
    engine: Engine,
    requests: Sequence[Request],
    choice: DraftChoice | None,
    draft_length: int,
    batch_size: int,
) -> dict[str, tuple[StepRecord, ...]]:
    """Steps of each request when its draft is forced to a length; decoded in batches.

    Steps near the limit of an answer are left out: they drafted less than asked, and would say
    that long drafts bring less than they do.

    Returns:
        Steps by request id.
    """
    if choice is None:
        return {request.id: () for request in requests}
    forced = [
        replace(request, draft=replace(choice, draft_length=draft_length)) for request in requests
    ]
    results = engine.generate(forced, batch_size)
    return {
        result.id: _with_room(request, result.steps, draft_length, engine.target.context_length)
        for request, result in zip(forced, results, strict=True)
    }


def _with_room(
    request: Request, steps: Sequence[StepRecord], draft_length: int, context: int
) -> tuple[StepRecord, ...]:
    """The steps that could emit all they drafted and one more; all, where none could."""
    limit = min(request.max_new_tokens, context - len(request.prompt))
    emitted = 1 + np.cumsum([0, *(step.emitted for step in steps)])
    pairs = zip(steps, emitted, strict=False)
    return tuple(step for step, done in pairs if done + draft_length < limit) or tuple(steps)
