"""Draft lengths for the machine at hand: the cost model with this machine's costs."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from taskspec.decoding.cost import (
    AcceptanceCurve,
    TargetCost,
    best_length,
    mean_curve,
    measure_draft,
    measure_target,
)
from taskspec.decoding.engine import Engine
from taskspec.decoding.pacing import DraftPace, Pace
from taskspec.decoding.records import DraftChoice, Request
from taskspec.serving.bundle import Bundle
from taskspec.serving.routing import Assignment

_REPEATS = 3
_PACE_REPEATS = 5


@dataclass(frozen=True)
class Calibrated:
    """An assignment, of a task or the fallback, after measuring.

    Attributes:
        before: As it was.
        after: With the length that promises most here; 0, plain decoding, where none gains.
        predicted: Speed-up over plain decoding that the cost model promises; 1 for plain
            decoding, None where nothing is known of the draft's acceptance.
    """

    before: Assignment
    after: Assignment
    predicted: float | None


def measure_overhead(engine: Engine, request: Request, cost: TargetCost, rows: int = 1) -> float:
    """o: what a plain step of so many rows costs beyond the target pass.

    Args:
        engine: Decodes the request.
        request: A typical one; with one token only, nothing is known and o is 0.
        cost: Target passes, over up to so many tokens as there are rows.
        rows: Rows decoded together.

    Returns:
        The overhead, relative to a target pass over one token.
    """
    requests = [replace(request, id=str(row)) for row in range(rows)]
    medians = []
    for repeat in range(_REPEATS + 1):
        times: dict[str, list[float]] = {each.id: [] for each in requests}

        def note(name: str, _: Sequence[int], times: dict[str, list[float]] = times) -> None:
            times[name].append(time.perf_counter())

        engine.generate(requests, rows, on_emit=note)
        steps = len(times["0"]) - 1
        if steps and repeat:
            medians.append((times["0"][-1] - times["0"][0]) / steps)
    if not medians:
        return 0.0
    return max(0.0, statistics.median(medians) / cost.seconds[0] - cost.verify_ratio(rows))


def measure_pace(bundle: Bundle, request: Request, rows: int) -> Pace:
    """What batches of a bundle's requests cost here, for choosing their draft lengths.

    Args:
        bundle: A loaded bundle.
        request: A typical prompt, decoded plainly to measure the overhead.
        rows: Most rows that will be decoded together.
    """
    chosen = (*bundle.manifest.tasks, bundle.manifest.fallback)
    curves: dict[DraftChoice, list[AcceptanceCurve]] = {}
    for each in chosen:
        choice = bundle.pool.choice(each.draft, each.draft_length)
        if choice is not None and each.curve is not None:
            curves.setdefault(choice, []).append(each.curve)
    longest = max((choice.draft_length for choice in curves), default=0)
    model, prompt = bundle.engine.model, request.prompt
    context = bundle.target.context_length
    cost = measure_target(model, prompt, rows * (longest + 1), context, _PACE_REPEATS)
    overhead = measure_overhead(bundle.engine, request, cost, rows)
    drafts = {}
    for choice, own in curves.items():
        drafter = bundle.pool.drafters[choice.draft]
        seconds = measure_draft(drafter, choice, bundle.target, prompt, request.sampling)
        drafts[choice] = DraftPace(mean_curve(own), seconds)
    return Pace(cost, overhead, drafts)


def calibrate(bundle: Bundle, request: Request) -> tuple[Calibrated, ...]:
    """Measure target passes, overhead and drafts here, and choose every assignment's draft length.

    Args:
        bundle: A loaded bundle; it stays as it is.
        request: A typical prompt, decoded plainly to measure the overhead.

    Returns:
        One result per task, in the bundle's order, and at the end the fallback's.
    """
    chosen = (*bundle.manifest.tasks, bundle.manifest.fallback)
    curves = [each.curve for each in chosen if each.curve is not None]
    longest = max((len(curve.block_efficiency) for curve in curves), default=1)
    context = bundle.target.context_length
    cost = measure_target(bundle.engine.model, request.prompt, longest + 1, context)
    overhead = measure_overhead(bundle.engine, request, cost)
    return tuple(_calibrated(bundle, each, request, cost, overhead) for each in chosen)


def _calibrated(
    bundle: Bundle, task: Assignment, request: Request, cost: TargetCost, overhead: float
) -> Calibrated:
    if task.draft is None or task.curve is None:
        return Calibrated(task, task, None if task.draft_length else 1.0)
    curve, lengths = task.curve, range(1, len(task.curve.block_efficiency) + 1)
    choice = bundle.pool.choice(task.draft, lengths[-1])
    assert choice is not None
    seconds = measure_draft(
        bundle.pool.drafters[choice.draft],
        choice,
        bundle.target,
        request.prompt,
        request.sampling,
    )
    # Plain decoding has the overhead too: its own promise is 1 / (1 + o).
    promises = {k: curve.speedup(k, seconds, cost, overhead) * (1 + overhead) for k in lengths}
    best = best_length(promises)
    if promises[best] <= 1:
        return Calibrated(task, replace(task, draft_length=0), 1.0)
    return Calibrated(task, replace(task, draft_length=best), promises[best])
