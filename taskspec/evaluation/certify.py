"""Certifying a bundle: all tests of losslessness, in all its ways to answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from taskspec.decoding.engine import Engine
from taskspec.decoding.records import Request
from taskspec.evaluation.certificate import Certificate
from taskspec.evaluation.faults import faults_of
from taskspec.evaluation.losslessness import (
    Setting,
    certify_greedy,
    certify_sampled,
    greedy_settings,
    try_faults,
)
from taskspec.interfaces import Sampling, Verifier
from taskspec.registry import Registry
from taskspec.serving.bundle import Bundle
from taskspec.serving.pool import Pool, load_pool

SAMPLINGS = (Sampling(1.0), Sampling(0.7, top_k=50, top_p=0.9))
"""Processors of the sampled tests."""
_SAMPLED_PROMPTS, _FAULT_PROMPTS = 20, 10


@dataclass(frozen=True)
class Plan:
    """How much is tried.

    Attributes:
        draft_lengths: Tokens drafted per step.
        batch_sizes: Rows decoded together.
        draws: Sampled answers for each prompt and draft.
    """

    draft_lengths: tuple[int, ...]
    batch_sizes: tuple[int, ...]
    draws: int


def certify(
    bundle: Bundle,
    registry: Registry,
    verifier: Verifier,
    prompts: Sequence[Request],
    plan: Plan,
    broken_rules: Callable[[Verifier], tuple[str, ...]],
    watched: Callable[[int], AbstractContextManager[Callable[[int], None]]],
) -> Certificate:
    """Run all tests, in float32 and, greedily, as the bundle is served.

    What they are compared with decodes plainly and reads every prompt whole.

    Args:
        bundle: Target and drafts.
        registry: The plugins.
        verifier: A lossless one.
        prompts: Greedy requests without drafts.
        plan: How much is tried.
        broken_rules: Names the rules of its kind that a verifier breaks.
        watched: Given the number of steps, what to tell of each that is done.
    """
    exact = bundle.target.in_float32()
    pool = load_pool(bundle.manifest.drafts, registry, exact)
    settings = _settings(pool, plan.draft_lengths, plan.batch_sizes)
    longest = _settings(pool, (max(plan.draft_lengths),), (max(plan.batch_sizes),))
    samplings = SAMPLINGS if verifier.samples else ()
    served = () if exact is bundle.target else (bundle.target,)
    steps = (1 + len(served)) * len(settings) + len(samplings) * len(longest)
    steps += len(faults_of(verifier))

    def new_engine() -> Engine:
        return Engine(exact, verifier, pool.drafters, prefixes=bundle.manifest.prefixes)

    with watched(steps) as advance:

        def done(_: str) -> None:
            advance(1)

        expected = Engine(exact, verifier).generate(prompts)
        greedy = [certify_greedy(new_engine(), exact, prompts, settings, expected, done)]
        for target in served:
            own = _settings(bundle.pool, plan.draft_lengths, plan.batch_sizes)
            plain = Engine(target, verifier).generate(prompts)
            prefixes = bundle.manifest.prefixes
            engine = Engine(target, verifier, bundle.pool.drafters, prefixes=prefixes)
            greedy.append(certify_greedy(engine, target, prompts, own, plain, done))
        some, few = prompts[:_SAMPLED_PROMPTS], slice(0, _FAULT_PROMPTS)
        sampled = tuple(
            certify_sampled(new_engine(), exact, some, longest, each, plan.draws, done)
            for each in samplings
        )
        faults = try_faults(
            new_engine,
            exact,
            prompts[few],
            longest,
            expected[few],
            next(iter(samplings), None),
            plan.draws,
            broken_rules,
            done,
        )
    return Certificate(tuple(greedy), sampled, faults)


def _settings(pool: Pool, lengths: Sequence[int], sizes: Sequence[int]) -> list[Setting]:
    choices = {}
    for name in pool.entries:
        made = {length: pool.choice(name, length) for length in lengths}
        choices[name] = {k: choice for k, choice in made.items() if choice is not None}
    return greedy_settings(choices, sizes)
