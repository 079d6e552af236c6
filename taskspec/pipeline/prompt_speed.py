"""What drafts would take on single prompts, by the cost model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from taskspec.corpus.examples import Example
from taskspec.decoding.cost import AcceptanceCurve, acceptance_curve
from taskspec.decoding.records import Request
from taskspec.pipeline.assign import load_costs
from taskspec.pipeline.collect import load_answers
from taskspec.pipeline.context import RunContext
from taskspec.pipeline.entries import all_entries, engine_for, measuring_requests
from taskspec.pipeline.partition import load_tasks
from taskspec.pipeline.progress import progress
from taskspec.pipeline.speed import acceptance_steps
from taskspec.serving.pool import load_pool, with_members
from taskspec.serving.routing import Assignment


def prompt_seconds(
    context: RunContext, examples: Sequence[Example], ways: Sequence[Assignment]
) -> NDArray[np.float64]:
    """Predicted seconds of every prompt's answer in every way of decoding it.

    Acceptance is measured prompt by prompt, in batches, once for each draft, and read off at
    each length; costs are those that drafts were assigned by. Prefills are left out, as all ways
    have the target's. A draft of which an answer is too short to show anything counts as plain
    decoding.

    Args:
        context: A run whose drafts are assigned.
        examples: N prompts that the target has answered.
        ways: W ways of decoding.

    Returns:
        float64 [N, W].
    """
    costs = load_costs(context.stage_folders["assign"])
    stored = load_answers(context.stage_folders["collect"])
    most = context.recipe.assign.max_new_tokens
    # The prefill gives the first token.
    tokens = np.array([min(len(stored[e.id].answer_ids), most) - 1 for e in examples])
    requests = measuring_requests(context, stored, [example.id for example in examples])
    curves = _curves(context, requests, ways)
    plainly = costs.target.seconds[0] * (1 + costs.overhead)

    def each(example: Example, way: Assignment) -> float:
        """Seconds per token."""
        if way.draft is None or (curve := curves[way.draft][example.id]) is None:
            return plainly
        draft_seconds = costs.draft_seconds[way.draft]
        speedup = curve.speedup(way.draft_length, draft_seconds, costs.target, costs.overhead)
        return costs.target.seconds[0] / speedup

    per_token = np.array([[each(example, way) for way in ways] for example in examples])
    seconds: NDArray[np.float64] = per_token * tokens[:, None]
    return seconds


def _curves(
    context: RunContext, requests: Sequence[Request], ways: Sequence[Assignment]
) -> dict[str, dict[str, AcceptanceCurve | None]]:
    """Acceptance of every draft that the ways name, by draft and prompt."""
    lengths: dict[str, int] = {}
    for way in ways:
        if way.draft is not None:
            lengths[way.draft] = max(way.draft_length, lengths.get(way.draft, 0))
    if not lengths:
        return {}
    tasks = load_tasks(context.stage_folders["partition"])
    known = all_entries(context, len(tasks.names))
    pool = load_pool(with_members(lengths, known), context.registry, context.target)
    engine = engine_for(context, pool)
    batch = context.recipe.collect.batch_size
    found = {}
    with progress(context.console, "drafts on single prompts", len(lengths)) as advance:
        for draft, longest in lengths.items():
            choice = pool.choice(draft, longest)
            steps = acceptance_steps(engine, requests, choice, longest, batch)
            found[draft] = {
                name: acceptance_curve({name: own}, longest) for name, own in steps.items()
            }
            advance(1)
    return found
