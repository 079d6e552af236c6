"""Stage 5: each draft that can learn learns each task, and all of them together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from taskspec.corpus.answers import StoredAnswer
from taskspec.interfaces import Aligner, TrainableDrafter
from taskspec.pipeline.artifacts import digest, working_folder
from taskspec.pipeline.context import RunContext
from taskspec.pipeline.draft import (
    build_draft,
    draft_folder,
    drafter_class,
    train_answers,
    training_settings,
)
from taskspec.pipeline.partition import load_tasks
from taskspec.pipeline.stage import Stage
from taskspec.pipeline.teaching import teach
from taskspec.recipe.plugins import make_plugin, make_plugin_options
from taskspec.recipe.schema import PluginChoice
from taskspec.serving.pool import DraftEntry

SINGLE, SHARED = "single", "shared"


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

    def settings(self, context: RunContext) -> Any:
        """The aligner, its budget and the seed."""
        recipe = context.recipe
        return {
            "aligner": context.plugin_identity("aligner", recipe.align),
            "recovery": context.plugin_identity("aligner", recipe.align.recovery),
            "tokens": recipe.align.tokens,
            "shared": recipe.align.shared,
            "learning_rate": recipe.align.learning_rate,
            "training": training_settings(context),
            "seed": recipe.seed,
        }

    def run(self, context: RunContext, folder: Path) -> str:
        """Write `<draft>@<task>/` for each draft, trained ones with `@shared/` and `@single/`."""
        align = context.recipe.align
        answers = train_answers(context)
        tasks = load_tasks(context.stage_folders["partition"])
        by_task = [
            [answer for answer in answers if tasks.labels[answer.id] == label]
            for label in range(len(tasks.names))
        ]
        kept = [answer for own in by_task for answer in own]
        everything = align.tokens * len(tasks.names)
        shared, own = round(everything * align.shared), 1 - align.shared
        lines = []
        for draft in trainable_drafts(context):
            start = draft_folder(context, draft)
            if shared:
                job = _Job(SHARED, "all tasks", align.recovery, start, kept, shared)
                lines += self._bring(context, folder, draft, job)
                start = folder / f"{draft}@{SHARED}" / "draft"
            jobs = [
                _Job(task_key(label), name, align, start, by_task[label], round(align.tokens * own))
                for label, name in enumerate(tasks.names)
            ]
            jobs.append(_Job(SINGLE, "all tasks, alone", align, start, kept, everything - shared))
            for job in jobs:
                lines += self._bring(context, folder, draft, job)
        for draft in _corpus_drafts(context):
            for label, own_answers in enumerate(by_task):
                lines += self._build(context, folder, draft, label, own_answers)
        return "; ".join(lines) or "no draft in the pool learns"

    def _bring(self, context: RunContext, folder: Path, draft: str, job: _Job) -> list[str]:
        """Do a job unless an interrupted run has done it."""
        result = folder / f"{draft}@{job.key}"
        if result.exists():
            return []
        with working_folder(result, digest([self.settings(context), draft, job.key])) as work:
            return [_align(context, work, draft, job)]

    def _build(
        self,
        context: RunContext,
        folder: Path,
        draft: str,
        label: int,
        answers: Sequence[StoredAnswer],
    ) -> list[str]:
        """Build a draft from one task's answers unless an interrupted run has."""
        result = folder / f"{draft}@{task_key(label)}"
        if result.exists():
            return []
        with working_folder(result, digest([self.settings(context), draft, label])) as work:
            (work / "draft").mkdir(exist_ok=True)
            build_draft(context, draft, answers).save(work / "draft")
        return [f"{draft} to {task_key(label)}: {len(answers)} answers"]


@dataclass(frozen=True)
class _Job:
    """One alignment: from which draft, by which aligner, on which answers, for how long."""

    key: str
    title: str
    aligner: PluginChoice
    start: Path
    answers: Sequence[StoredAnswer]
    tokens: int


def _align(context: RunContext, work: Path, draft: str, job: _Job) -> str:
    """Align a fresh copy of one draft to one set of answers."""
    options = make_plugin_options(context.registry, "drafter", context.recipe.draft.pool[draft])
    drafter = drafter_class(context, draft).load(job.start, context.target, options)
    assert isinstance(drafter, TrainableDrafter)
    report = teach(
        context,
        work / "training",
        drafter,
        job.aligner,
        job.answers,
        tokens=job.tokens,
        learning_rate=context.recipe.align.learning_rate,
        label=f"aligning {draft} to {job.title}",
        export=work / "draft",
    )
    return f"{draft} to {job.title}: {report.tokens:,} tokens in {report.seconds:.0f} s"


def task_key(label: int) -> str:
    """How a task is called in folder and draft names."""
    return f"task-{label}"


def trainable_drafts(context: RunContext) -> list[str]:
    """Names of the pool's drafts that an aligner can train."""
    return [
        name
        for name in context.recipe.draft.pool
        if issubclass(drafter_class(context, name), TrainableDrafter)
    ]


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
    """A draft of the pool aligned to a task (`task-0`) or to all (`single`)."""
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
