"""The drafts that a run decodes with, and how it decodes with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from taskspec.corpus.answers import StoredAnswer
from taskspec.decoding.engine import Engine
from taskspec.decoding.records import Request
from taskspec.interfaces import Sampling
from taskspec.pipeline.align import aligned_entry, base_entry, task_entries
from taskspec.pipeline.alignment_jobs import SINGLE, trainable_drafts
from taskspec.pipeline.context import RunContext
from taskspec.pipeline.verifiers import make_verifier
from taskspec.recipe.choice import PluginChoice
from taskspec.serving.pool import DraftEntry, Pool

PROMPT_LOOKUP = "prompt-lookup"


def baseline_entries(context: RunContext) -> dict[str, DraftEntry]:
    """The drafts of the rows every benchmark table has: vanilla, single, prompt-lookup."""
    entries: dict[str, DraftEntry] = {}
    trainable = trainable_drafts(context)
    if trainable:
        entries["vanilla"] = base_entry(context, trainable[0])
        entries[SINGLE] = aligned_entry(context, trainable[0], SINGLE)
    pool = context.recipe.draft.pool
    lookup = next((name for name, choice in pool.items() if choice.use == PROMPT_LOOKUP), None)
    if lookup is not None:
        entries[PROMPT_LOOKUP] = base_entry(context, lookup)
    elif any(r.kind == "drafter" and r.name == PROMPT_LOOKUP for r in context.registry.plugins()):
        choice = PluginChoice(use=PROMPT_LOOKUP)
        entries[PROMPT_LOOKUP] = DraftEntry(PROMPT_LOOKUP, choice, context.folder / "none")
    return entries


def all_entries(context: RunContext, tasks: int) -> dict[str, DraftEntry]:
    """Every draft that may decode a task or a benchmark row, by name."""
    entries = [entry for label in range(tasks) for entry in task_entries(context, label)]
    entries += baseline_entries(context).values()
    return {entry.name: entry for entry in entries}


def sampling_of(context: RunContext) -> Sampling:
    """The recipe's logits processors."""
    decode = context.recipe.decode
    return Sampling(decode.temperature, decode.top_k, decode.top_p)


def measuring_requests(
    context: RunContext, stored: Mapping[str, StoredAnswer], ids: Sequence[str]
) -> list[Request]:
    """Known prompts as drafts are measured on them, without a draft."""
    recipe = context.recipe
    return [
        Request(
            prompt_id,
            stored[prompt_id].prompt_ids,
            recipe.assign.max_new_tokens,
            sampling_of(context),
            seed=recipe.seed + index,
        )
        for index, prompt_id in enumerate(ids)
    ]


def engine_for(context: RunContext, pool: Pool) -> Engine:
    """An engine over the target, the recipe's verifier and a pool."""
    verifier = make_verifier(context.registry, context.recipe.decode.verifier)
    return Engine(context.target, verifier, pool.drafters)
