"""How fast batches are answered: plainly and routed, beside one prompt at a time."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from taskspec.decoding.pacing import Pace
from taskspec.decoding.records import Generation, Request
from taskspec.evaluation.metrics import block_efficiency
from taskspec.serving.bundle import Bundle
from taskspec.serving.calibration import measure_pace

TURNS = 3
"""Times that each way answers all prompts in a round: that gives a single time, which any other
work on the machine moves."""
_CALIBRATION_TOKENS = 32


@dataclass(frozen=True)
class BatchSpeed:
    """All prompts, so many at a time, a new one admitted whenever one ends.

    Attributes:
        rows: Prompts decoded together.
        plain: Tokens per second of plain decoding, prompts included; medians over turns.
        routed: The same of routed decoding, each row with its task's draft.
        plain_ratio: `plain` over plain decoding one prompt at a time.
        routed_ratio: `routed` over `plain`.
        routed_range: Least and most of that ratio in one turn.
        block_efficiency: tau of the routed rows.
        differing: Routed answers that differ from those of plain decoding, one at a time.
    """

    rows: int
    plain: float
    routed: float
    plain_ratio: float
    routed_ratio: float
    routed_range: tuple[float, float]
    block_efficiency: float
    differing: int


def bench_batches(
    bundle: Bundle,
    requests: Sequence[Request],
    route: Callable[[], Sequence[Request]],
    sizes: Sequence[int],
    repeats: int,
    alone: float,
    answers: Mapping[str, Sequence[int]],
    on_done: Callable[[], None],
) -> tuple[BatchSpeed, ...]:
    """Answer all prompts in batches, plainly and routed in turn.

    Args:
        bundle: Target and drafts.
        requests: The prompts, decoded plainly.
        route: Gives them the drafts that they are routed to, which is timed, too.
        sizes: Batch sizes.
        repeats: Rounds.
        alone: Tokens per second of plain decoding, one prompt at a time.
        answers: What that wrote, by request.
        on_done: Told after each pass through the prompts.
    """
    typical = replace(requests[0], max_new_tokens=_CALIBRATION_TOKENS)
    return tuple(
        _bench(bundle, requests, route, rows, repeats, alone, answers, typical, on_done)
        for rows in sizes
    )


def _bench(
    bundle: Bundle,
    requests: Sequence[Request],
    route: Callable[[], Sequence[Request]],
    rows: int,
    repeats: int,
    alone: float,
    answers: Mapping[str, Sequence[int]],
    typical: Request,
    on_done: Callable[[], None],
) -> BatchSpeed:
    pace = measure_pace(bundle, typical, rows)
    plain: list[float] = []
    routed: list[float] = []
    wrote: list[Generation] = []
    for turn in range(TURNS * repeats):
        ways = [(lambda: requests, plain), (route, routed)]
        for asked, speeds in ways if turn % 2 == 0 else ways[::-1]:
            done, speed = _answer(bundle, asked, rows, pace)
            speeds.append(speed)
            wrote = done if speeds is routed else wrote
            on_done()
    steps = [step for each in wrote for step in each.steps]
    ratios = [own / other for own, other in zip(routed, plain, strict=True)]
    return BatchSpeed(
        rows,
        statistics.median(plain),
        statistics.median(routed),
        statistics.median(plain) / alone,
        statistics.median(ratios),
        (min(ratios), max(ratios)),
        block_efficiency(steps) or 1.0,
        sum(tuple(each.tokens) != tuple(answers[each.id]) for each in wrote),
    )


def _answer(
    bundle: Bundle, prepare: Callable[[], Sequence[Request]], rows: int, pace: Pace
) -> tuple[list[Generation], float]:
    started = time.perf_counter()
    done = bundle.engine.generate(prepare(), rows, pace=pace.fresh())
    return done, sum(len(each.tokens) for each in done) / (time.perf_counter() - started)
