"""Stage 5: each draft that can learn learns each task, and all of them together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from taskspec.interfaces import Aligner
from taskspec.pipeline.alignment_jobs import (
    SHARED,
    Job,
    do_job,
    plan_jobs,
    task_key,
    trainable_drafts,
)
from taskspec.pipeline.artifacts import digest, working_folder
from taskspec.pipeline.context import RunContext
from taskspec.pipeline.draft import (
    build_draft,
    draft_folder,
    drafter_class,
    split_answers,
    training_settings,
)
from taskspec.pipeline.partition import load_tasks
from taskspec.pipeline.side_by_side import device_total, do_side_by_side
from taskspec.pipeline.stage import Stage
from taskspec.pipeline.together import do_together
from taskspec.recipe.plugins import make_plugin, make_plugin_options
from taskspec.serving.pool import DraftEntry


class Align(Stage):
    """Aligns every trainable draft to every task with the same budget each.

    What tasks have in common is learnt once: a share of the budget goes into one draft on all
    prompts, from which every task goes on alone. The same draft, going on on all prompts until
    it has had the budget of all tasks together, is the `single` row of the benchmark and the
    fallback of the router. A draft that learns from the corpus without training is built again
    from each task's answers.
    """

    name = "align"
    needs = ("collect", "partition", "draft")
    together = True

    def settings(self, context: RunContext) -> Any:
        """The aligner, its budget and the seed; nothing at all where none is to align."""
        recipe = context.recipe
        if not recipe.align.enabled:
            return {"enabled": False}
        return {
            "aligner": context.plugin_identity("aligner", recipe.align),
            "recovery": context.plugin_identity("aligner", recipe.align.recovery),
            "tokens": recipe.align.tokens,
            "shared": recipe.align.shared,
            "learning_rate": recipe.align.learning_rate,
            "training": training_settings(context),
            "jobs": recipe.align.jobs,
            "seed": recipe.seed,
        }

    def run(self, context: RunContext, folder: Path) -> str:
        """Write `<draft>@<task>/` for each draft, trained ones with `@shared/` and `@single/`."""
        align = context.recipe.align
        if not align.enabled:
            return "left out: drafts stay as they were built"
        first, then = plan_jobs(context, folder)
        lines = [line for job in first for line in _bring(context, folder, job)]
        if align.jobs == "side-by-side" and device_total(align.trainer) > 1:
            if context.writes:
                lines += do_side_by_side(context, folder, [job.name for job in then])
        else:
            lines += [line for job in then for line in _bring(context, folder, job)]
        if context.writes:
            lines += list(_build_corpus_drafts(context, folder))
        return "; ".join(lines) or "no draft in the pool learns"


def bring_job(context: RunContext, folder: Path, name: str) -> list[str]:
    """Do the job of this name unless an interrupted run has done it."""
    jobs = {job.name: job for each in plan_jobs(context, folder) for job in each}
    return _bring(context, folder, jobs[name])


def _bring(context: RunContext, folder: Path, job: Job) -> list[str]:
    identity = digest([Align().settings(context), job.draft, job.key])
    return do_together(
        context, folder / job.name, identity, lambda work: do_job(context, work, job)
    )


def _build_corpus_drafts(context: RunContext, folder: Path) -> Iterator[str]:
    """Build drafts that learn without training from each task's answers, those not yet built."""
    answers = split_answers(context, "train")
    labels = load_tasks(context.stage_folders["partition"]).labels
    for draft in _corpus_drafts(context):
        for label in sorted({labels[answer.id] for answer in answers} - {-1}):
            result = folder / f"{draft}@{task_key(label)}"
            own = [answer for answer in answers if labels[answer.id] == label]
            if result.exists():
                continue
            identity = digest([Align().settings(context), draft, label])
            with working_folder(result, identity) as work:
                (work / "draft").mkdir(exist_ok=True)
                build_draft(context, draft, own).save(work / "draft")
            yield f"{draft} to {task_key(label)}: {len(own)} answers"


def _corpus_drafts(context: RunContext) -> list[str]:
    """Names of the pool's drafts that learn from the corpus without training."""
    trainable = trainable_drafts(context)
    return [
        name
        for name in context.recipe.draft.pool
        if drafter_class(context, name).learns_from_corpus and name not in trainable
    ]


def base_entry(context: RunContext, draft: str) -> DraftEntry:
    """The draft of the pool as it was before alignment."""
    return DraftEntry(draft, context.recipe.draft.pool[draft], draft_folder(context, draft))


def aligned_entry(context: RunContext, draft: str, key: str) -> DraftEntry:
    """A draft of the pool aligned to a task (`task-0`) or to all (`single`), where any is."""
    if not context.recipe.align.enabled:
        return base_entry(context, draft)
    name = f"{draft}@{key}"
    folder = context.stage_folders["align"] / name / "draft"
    choice = context.recipe.draft.pool[draft]
    aligner = make_plugin(context.registry, "aligner", context.recipe.align)
    assert isinstance(aligner, Aligner)
    if aligner.adapts and draft in trainable_drafts(context):
        shared = context.stage_folders["align"] / f"{draft}@{SHARED}" / "draft"
        base = shared if shared.is_dir() else draft_folder(context, draft)
        return DraftEntry(name, choice, base, folder)
    return DraftEntry(name, choice, folder)


def task_entries(context: RunContext, label: int) -> list[DraftEntry]:
    """The drafts that compete for a task: made for it where they can be, else as they are."""
    entries = {draft: _task_entry(context, draft, label) for draft in context.recipe.draft.pool}
    return [
        replace(
            entry,
            name=f"{draft}@{task_key(label)}",
            members=tuple(entries[member].name for member in _members(context, draft)),
        )
        if _members(context, draft)
        else entry
        for draft, entry in entries.items()
    ]


def _task_entry(context: RunContext, draft: str, label: int) -> DraftEntry:
    if draft in (*trainable_drafts(context), *_corpus_drafts(context)):
        return aligned_entry(context, draft, task_key(label))
    return base_entry(context, draft)


def _members(context: RunContext, draft: str) -> tuple[str, ...]:
    options = make_plugin_options(context.registry, "drafter", context.recipe.draft.pool[draft])
    return drafter_class(context, draft).members(options)
