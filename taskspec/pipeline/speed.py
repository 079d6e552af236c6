"""Measuring drafts on prompts: acceptance in batches, speed one prompt at a time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import median
from typing import TypeVar

import numpy as np

from taskspec.decoding.answer_memory import AnswerMemory
from taskspec.decoding.correction import Correction
from taskspec.decoding.engine import Engine
from taskspec.decoding.records import DraftChoice, Generation, Request, StepRecord

_Way = TypeVar("_Way")
_STALLED = 1.5


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

    @property
    def seconds_a_pass(self) -> float:
        """Seconds of a pass of the target, the prompt's among them."""
        return self.seconds / (1 + len(self.generation.steps))


def decode_timed(
    engine: Engine,
    prepare: Callable[[], Request],
    correction: Correction | None = None,
    memory: AnswerMemory | None = None,
) -> Timed:
    """Decode one request at batch 1; `prepare` (routing, say) is inside the clock."""
    emitted: list[float] = []
    started = time.perf_counter()
    generation = engine.generate(
        [prepare()],
        on_emit=lambda *_: emitted.append(time.perf_counter()),
        correction=correction,
        memory=memory,
    )[0]
    return Timed(time.perf_counter() - started, emitted[0] - started, generation)


def time_in_turn(
    engine: Engine,
    requests: Sequence[Request],
    ways: Mapping[_Way, Callable[[Request], Request]],
) -> dict[_Way, list[Timed]]:
    """Decode each request in each way at batch 1, ways taking turns.

    Whatever else runs on a machine may stop it in the middle of an answer. A request of which one
    way's passes took half as long again as that way's other passes do is decoded once more in all
    ways, and of each way's two times the shorter one counts.

    Args:
        engine: Holds the drafts of all ways.
        requests: What to decode.
        ways: Each gives a request its draft.

    Returns:
        Of each way, one timing per request.
    """
    names = list(ways)

    def decode(index: int) -> dict[_Way, Timed]:
        turn = index % len(names)
        return {
            name: decode_timed(engine, partial(ways[name], requests[index]))
            for name in names[turn:] + names[:turn]
        }

    rounds = [decode(index) for index in range(len(requests))]
    for index in _stalled(rounds):
        again = decode(index)
        rounds[index] = {
            name: min(timed, again[name], key=lambda each: each.seconds)
            for name, timed in rounds[index].items()
        }
    return {name: [each[name] for each in rounds] for name in names}


def _stalled(rounds: Sequence[Mapping[_Way, Timed]]) -> list[int]:
    """The requests of which a way's passes took far longer than its others in the median."""
    paces = [{name: each.seconds_a_pass for name, each in own.items()} for own in rounds]

    def usual(name: _Way, index: int) -> float:
        others = [pace[name] for place, pace in enumerate(paces) if place != index]
        return median(others) if others else math.inf

    return [
        index
        for index, own in enumerate(paces)
        if any(pace > _STALLED * usual(name, index) for name, pace in own.items())
    ]


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
