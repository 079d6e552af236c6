"""The drafts that a run decodes with, and how it decodes with them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from taskspec.corpus.answers import StoredAnswer
from taskspec.decoding.engine import Engine
from taskspec.decoding.records import Request
from taskspec.interfaces import Aligner, Sampling
from taskspec.pipeline.alignment_jobs import (
    SHARED,
    SINGLE,
    corpus_drafts,
    task_key,
    trainable_drafts,
)
from taskspec.pipeline.context import RunContext, plain
from taskspec.pipeline.draft import draft_folder, drafter_class
from taskspec.pipeline.encode import known_prefixes
from taskspec.pipeline.search_record import load_search
from taskspec.pipeline.verifiers import make_verifier
from taskspec.recipe.choice import PluginChoice
from taskspec.recipe.plugins import make_plugin, make_plugin_options
from taskspec.serving.pool import DraftEntry, Pool

PROMPT_LOOKUP = "prompt-lookup"


@dataclass(frozen=True)
class Made:
    """Where aligned drafts lie.

    Attributes:
        folder: The stage's.
        part: How far those trained for tasks are; empty to the end.
    """

    folder: Path
    part: str = ""


def base_entry(context: RunContext, draft: str) -> DraftEntry:
    """The draft of the pool as it was before alignment."""
    return DraftEntry(draft, context.recipe.draft.pool[draft], draft_folder(context, draft))


def aligned_entry(
    context: RunContext, draft: str, key: str, made: Made | None = None
) -> DraftEntry:
    """A draft of the pool aligned to a task (`task-0`) or to all (`single`), where any is."""
    if not context.recipe.align.enabled:
        return base_entry(context, draft)
    made = made or Made(context.stage_folders["align"])
    name, choice = f"{draft}@{key}", context.recipe.draft.pool[draft]
    if draft not in trainable_drafts(context):
        return DraftEntry(name, choice, made.folder / name / "draft")
    folder = made.folder / (f"{name}.{made.part}" if made.part else name) / "draft"
    aligner = make_plugin(context.registry, "aligner", context.recipe.align.aligner_of(draft))
    assert isinstance(aligner, Aligner)
    if aligner.adapts:
        shared = made.folder / f"{draft}@{SHARED}" / "draft"
        base = shared if shared.is_dir() else draft_folder(context, draft)
        return DraftEntry(name, choice, base, folder)
    return DraftEntry(name, choice, folder)


def task_entries(context: RunContext, label: int) -> list[DraftEntry]:
    """The drafts that compete for a task: made for it where they can be, else as they are.

    What a search dropped does not, nor what drafts with it.
    """
    made = Made(context.stage_folders["align"])
    search = load_search(made.folder)
    return entries_of(context, label, made, search.dropped(label) if search else ())


def entries_of(
    context: RunContext, label: int, made: Made, dropped: Collection[str]
) -> list[DraftEntry]:
    """The same, wherever drafts lie.

    Args:
        context: The run.
        label: The task's.
        made: Where its drafts are.
        dropped: Drafts of the pool that are none of its any more.
    """
    members = {draft: draft_members(context, draft) for draft in context.recipe.draft.pool}
    entries = {
        draft: _task_entry(context, draft, label, made)
        for draft, named in members.items()
        if not {draft, *named} & set(dropped)
    }
    return [
        replace(
            entry,
            name=f"{draft}@{task_key(label)}",
            members=tuple(entries[member].name for member in members[draft]),
        )
        if members[draft]
        else entry
        for draft, entry in entries.items()
    ]


def _task_entry(context: RunContext, draft: str, label: int, made: Made) -> DraftEntry:
    if draft in (*trainable_drafts(context), *corpus_drafts(context)):
        return aligned_entry(context, draft, task_key(label), made)
    return base_entry(context, draft)


def draft_members(context: RunContext, draft: str) -> tuple[str, ...]:
    """Names of the pool's drafts that a draft drafts with."""
    options = make_plugin_options(context.registry, "drafter", context.recipe.draft.pool[draft])
    return drafter_class(context, draft).members(options)


def pool_name(entry: str) -> str:
    """The draft of the pool that an entry was made of."""
    return entry.partition("@")[0]


def baseline_entries(context: RunContext) -> dict[str, DraftEntry]:
    """The drafts of the rows every benchmark table has: vanilla, single, prompt-lookup."""
    entries: dict[str, DraftEntry] = {}
    trainable = trainable_drafts(context)
    if trainable:
        search = load_search(context.stage_folders["align"])
        leader = trainable[0] if search is None else search.leader(trainable)
        entries["vanilla"] = base_entry(context, leader)
        entries[SINGLE] = aligned_entry(context, leader, SINGLE)
    pool = context.recipe.draft.pool
    lookup = next((name for name, choice in pool.items() if choice.use == PROMPT_LOOKUP), None)
    if lookup is not None:
        entries[PROMPT_LOOKUP] = base_entry(context, lookup)
    elif any(r.kind == "drafter" and r.name == PROMPT_LOOKUP for r in context.registry.plugins()):
        choice = PluginChoice(use=PROMPT_LOOKUP)
        entries[PROMPT_LOOKUP] = DraftEntry(PROMPT_LOOKUP, choice, context.folder / "none")
    return entries


def general_entries(context: RunContext) -> list[DraftEntry]:
    """Drafts made from all tasks' prompts: the `single` row's, and those that learn from answers.

    They compete for every task, and the fastest of them is the router's fallback.
    """
    single = baseline_entries(context).get(SINGLE)
    learnt = [base_entry(context, draft) for draft in corpus_drafts(context)]
    return learnt if single is None else [single, *learnt]


def all_entries(context: RunContext, tasks: int) -> dict[str, DraftEntry]:
    """Every draft that may decode a task or a benchmark row, by name."""
    entries = [entry for label in range(tasks) for entry in task_entries(context, label)]
    entries += [*baseline_entries(context).values(), *general_entries(context)]
    return {entry.name: entry for entry in entries}


def sampling_of(context: RunContext) -> Sampling:
    """The recipe's logits processors."""
    decode = context.recipe.decode
    return Sampling(decode.temperature, decode.top_k, decode.top_p)


def decode_settings(context: RunContext) -> dict[str, Any]:
    """What measured speeds depend on of how requests are decoded; what serving adds is left out."""
    decode = context.recipe.decode
    settings = plain(decode)
    del settings["correction"], settings["remember"]
    verifier = context.plugin_identity("verifier", decode.verifier)
    return {**settings, "verifier": verifier, "prefixes": "kept"}


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
    return Engine(context.target, verifier, pool.drafters, prefixes=known_prefixes(context))
