"""The held-out prompts of an evaluation, and the check that no draft changes their answers."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from taskspec.corpus.examples import Example
from taskspec.decoding.engine import Engine
from taskspec.decoding.records import Request
from taskspec.evaluation.dealing import deal
from taskspec.evaluation.table import Lossless
from taskspec.interfaces import Sampling
from taskspec.pipeline.collect import load_examples
from taskspec.pipeline.context import RunContext
from taskspec.pipeline.encode import known_prefixes
from taskspec.pipeline.entries import sampling_of
from taskspec.pipeline.progress import progress
from taskspec.pipeline.verifiers import make_verifier, plain_verifier
from taskspec.serving.pool import DraftEntry, load_pool
from taskspec.serving.routing import PromptRouter, Route


@dataclass(frozen=True)
class HeldOut:
    """A held-out prompt: its request without a draft, its row in the tables, its route."""

    request: Request
    example: Example
    row: str
    route: Route

    @property
    def text(self) -> str:
        """What routers read."""
        return self.example.prompt_text


def held_out_prompts(context: RunContext, router: PromptRouter) -> list[HeldOut]:
    """The held-out prompts to decode: a seeded draw from every known (else found) task."""
    recipe = context.recipe
    examples = [e for e in load_examples(context.stage_folders["collect"]) if e.split == "test"]
    labelled = all(example.task is not None for example in examples)
    groups: dict[str, list[tuple[Example, Route]]] = {}
    for example in examples:
        route = router.route(example.prompt_text)
        name = example.task if labelled and example.task else route.assignment.task
        groups.setdefault(name, []).append((example, route))
    prompts: list[HeldOut] = []
    for name, members in groups.items():
        count = min(recipe.evaluate.prompts_per_task, len(members))
        for example, route in random.Random(recipe.seed).sample(members, count):
            ids = context.target.chat_ids(example.messages, recipe.target.system)
            request = Request(
                example.id,
                ids,
                recipe.evaluate.max_new_tokens,
                sampling_of(context),
                seed=recipe.seed + len(prompts),
            )
            prompts.append(HeldOut(request, example, name, route))
    return prompts


def check_lossless(
    context: RunContext, entries: Sequence[DraftEntry], prompts: Sequence[HeldOut]
) -> Lossless:
    """Decode greedily in float32 with the routed drafts and plainly; compare token for token.

    Plain decoding reads every prompt whole, whatever prefixes are shared. The prompts are of
    every row, as far as they reach. The recipe's verifier is checked; in the place of one that is
    not lossless, and does not claim to be, `greedy` shows that drafts are.
    """
    recipe = context.recipe
    rows: dict[str, list[HeldOut]] = {}
    for prompt in prompts:
        rows.setdefault(prompt.row, []).append(prompt)
    chosen = deal(rows.values())[: recipe.evaluate.lossless_prompts]
    if not chosen:
        return Lossless(0, 0, "float32")
    target = context.target_in_float32
    pool = load_pool(entries, context.registry, target)
    verifier = make_verifier(context.registry, recipe.decode.verifier)
    if not verifier.lossless:
        verifier = plain_verifier(context.registry, greedy=True)
    greedy = [replace(prompt.request, sampling=Sampling()) for prompt in chosen]
    drafted = [
        replace(
            request,
            draft=pool.choice(p.route.assignment.draft, p.route.assignment.draft_length),
        )
        for request, p in zip(greedy, chosen, strict=True)
    ]
    batch = recipe.collect.batch_size
    with progress(context.console, "checking losslessness", 2 * len(chosen)) as advance:
        expected = Engine(target, verifier).generate(greedy, batch)
        advance(len(chosen))
        engine = Engine(target, verifier, pool.drafters, prefixes=known_prefixes(context))
        found = engine.generate(drafted, batch)
        advance(len(chosen))
    differing = sum(a.tokens != b.tokens for a, b in zip(expected, found, strict=True))
    return Lossless(len(chosen), differing, "float32")
