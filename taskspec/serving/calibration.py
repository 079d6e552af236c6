"""Draft lengths for the machine at hand: the cost model with this machine's costs."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from taskspec.decoding.cost import TargetCost, best_length, measure_draft, measure_target
from taskspec.decoding.engine import Engine
from taskspec.decoding.records import Request
from taskspec.serving.bundle import Bundle
from taskspec.serving.routing import Assignment

_REPEATS = 3


@dataclass(frozen=True)
class Calibrated:
    """One task's assignment after measuring.

    Attributes:
        before: As it was.
        after: With the length that promises most here; 0, plain decoding, where none gains.
        predicted: Speed-up over plain decoding that the cost model promises; 1 for plain
            decoding, None where nothing is known of the draft's acceptance.
    """

    before: Assignment
    after: Assignment
    predicted: float | None


def measure_overhead(engine: Engine, request: Request, cost: TargetCost) -> float:
    """o: what a plain step costs beyond the target pass, relative to that pass."""
    seconds, steps = [], 0
    for repeat in range(_REPEATS + 1):
        started = time.perf_counter()
        steps = len(engine.generate([request])[0].steps)
        if repeat:
            seconds.append(time.perf_counter() - started)
    if not steps:
        return 0.0
    return max(0.0, statistics.median(seconds) / (steps + 1) / cost.seconds[0] - 1)


def calibrate(bundle: Bundle, request: Request) -> tuple[Calibrated, ...]:
    """Measure target passes, overhead and drafts here, and choose every task's draft length.

    Args:
        bundle: A loaded bundle; it stays as it is.
        request: A typical prompt, decoded plainly to measure the overhead.

    Returns:
        One result per task, in the bundle's order.
    """
    tasks = bundle.manifest.tasks
    longest = max((len(t.curve.block_efficiency) for t in tasks if t.curve is not None), default=1)
    cost = measure_target(bundle.engine.model, request.prompt, longest + 1)
    overhead = measure_overhead(bundle.engine, request, cost)
    return tuple(_calibrated(bundle, task, request.prompt, cost, overhead) for task in tasks)


def _calibrated(
    bundle: Bundle, task: Assignment, prompt: Sequence[int], cost: TargetCost, overhead: float
) -> Calibrated:
    if task.draft is None or task.curve is None:
        return Calibrated(task, task, None if task.draft_length else 1.0)
    curve, lengths = task.curve, range(1, len(task.curve.block_efficiency) + 1)
    choice = bundle.pool.choice(task.draft, lengths[-1])
    assert choice is not None
    seconds = measure_draft(bundle.pool.drafters[choice.draft], choice, bundle.target, prompt)
    # Plain decoding has the overhead too: its own promise is 1 / (1 + o).
    promises = {k: curve.speedup(k, seconds, cost, overhead) * (1 + overhead) for k in lengths}
    best = best_length(promises)
    if promises[best] <= 1:
        return Calibrated(task, replace(task, draft_length=0), 1.0)
    return Calibrated(task, replace(task, draft_length=best), promises[best])
