"""What drafts would take on single prompts, by the cost model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from taskspec.corpus.examples import Example
from taskspec.decoding.cost import acceptance_curve
from taskspec.decoding.records import Request, StepRecord
from taskspec.pipeline.answering import load_answers
from taskspec.pipeline.assign import load_costs
from taskspec.pipeline.context import RunContext
from taskspec.pipeline.entries import all_entries, engine_for, measuring_requests
from taskspec.pipeline.partition import load_tasks
from taskspec.pipeline.progress import progress
from taskspec.pipeline.speed import acceptance_steps
from taskspec.serving.pool import load_pool, with_members
from taskspec.serving.routing import Assignment


@dataclass(frozen=True)
class PromptSeconds:
    """Predicted time of N prompts' answers in W ways of decoding them.

    Attributes:
        per_token: float64 [N, W], seconds a token.
        halves: float64 [2, N, W], the same from every other step, which tells chance from what is
            the prompt's own.
        tokens: int64 [N], tokens of the answers.
    """

    per_token: NDArray[np.float64]
    halves: NDArray[np.float64]
    tokens: NDArray[np.int64]

    @property
    def seconds(self) -> NDArray[np.float64]:
        """float64 [N, W], of whole answers."""
        return self.per_token * self.tokens[:, None]


def prompt_seconds(
    context: RunContext, examples: Sequence[Example], ways: Sequence[Assignment]
) -> PromptSeconds:
    """Predicted seconds of every prompt's answer in every way of decoding it.

    Acceptance is measured prompt by prompt, in batches, once for each draft, and read off at
    each length; costs are those that drafts were assigned by. Prefills are left out, as all ways
    have the target's. A draft of which an answer is too short to show anything counts as plain
    decoding.

    Args:
        context: A run whose drafts are assigned.
        examples: N prompts that the target has answered.
        ways: W ways of decoding.
    """
    costs = load_costs(context.stage_folders["assign"])
    stored = load_answers(context.stage_folders["collect"], signal=False)
    most = context.recipe.assign.max_new_tokens
    # The prefill gives the first token.
    tokens = np.array([min(len(stored[e.id].answer_ids), most) - 1 for e in examples])
    requests = measuring_requests(context, stored, [example.id for example in examples])
    steps = _steps(context, requests, ways)
    plainly = costs.target.seconds[0] * (1 + costs.overhead)

    def each(example: Example, way: Assignment, part: slice) -> float:
        """Seconds per token, by a part of the steps."""
        if way.draft is None:
            return plainly
        own = steps[way.draft][example.id]
        # Of a step or two there are no halves.
        curve = acceptance_curve({"": own[part]}, way.draft_length) or acceptance_curve(
            {"": own}, way.draft_length
        )
        if curve is None:
            return plainly
        draft_seconds = costs.draft_seconds[way.draft]
        speedup = curve.speedup(way.draft_length, draft_seconds, costs.target, costs.overhead)
        return costs.target.seconds[0] / speedup

    whole, *halves = (
        np.array([[each(example, way, part) for way in ways] for example in examples])
        for part in (slice(None), slice(0, None, 2), slice(1, None, 2))
    )
    return PromptSeconds(whole, np.stack(halves), tokens)


def _steps(
    context: RunContext, requests: Sequence[Request], ways: Sequence[Assignment]
) -> dict[str, dict[str, tuple[StepRecord, ...]]]:
    """Steps of every draft that the ways name, at the longest length, by draft and prompt."""
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
            found[draft] = acceptance_steps(engine, requests, choice, longest, batch)
            advance(1)
    return found
