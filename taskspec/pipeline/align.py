"""Stage 5: each trainable draft learns each task, and all of them together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from taskspec.corpus.answers import StoredAnswer
from taskspec.interfaces import Aligner, TrainableDrafter
from taskspec.pipeline.artifacts import digest, working_folder
from taskspec.pipeline.context import RunContext
from taskspec.pipeline.draft import draft_folder, train_answers, training_settings
from taskspec.pipeline.partition import load_tasks
from taskspec.pipeline.stage import Stage
from taskspec.pipeline.teaching import teach
from taskspec.recipe.plugins import make_plugin, make_plugin_options
from taskspec.serving.pool import DraftEntry

SINGLE = "single"


class Align(Stage):
    """Aligns every trainable draft to every task with the same budget each.

    A draft aligned on all prompts, with the budget of all tasks together, is the `single` row of
    the benchmark and the fallback of the router.
    """

    name = "align"
    needs = ("collect", "partition", "draft")

    def settings(self, context: RunContext) -> Any:
        """The aligner, its budget and the seed."""
        recipe = context.recipe
        return {
            "aligner": context.plugin_identity("aligner", recipe.align),
            "tokens": recipe.align.tokens,
            "learning_rate": recipe.align.learning_rate,
            "training": training_settings(context),
            "seed": recipe.seed,
        }

    def run(self, context: RunContext, folder: Path) -> str:
        """Write `<draft>@<task>/` for every trainable draft, and `<draft>@single/`."""
        answers = train_answers(context)
        tasks = load_tasks(context.stage_folders["partition"])
        tokens = context.recipe.align.tokens
        jobs: dict[str, tuple[list[StoredAnswer], int]] = {
            task_key(label): ([a for a in answers if tasks.labels[a.id] == label], tokens)
            for label in range(len(tasks.names))
        }
        kept = [answer for answer in answers if tasks.labels[answer.id] >= 0]
        jobs[SINGLE] = (kept, tokens * len(tasks.names))
        lines = []
        for draft in trainable_drafts(context):
            for key, (own, budget) in jobs.items():
                target_folder = folder / f"{draft}@{key}"
                if target_folder.exists():
                    continue
                identity = digest([self.settings(context), draft, key])
                title = SINGLE if key == SINGLE else tasks.names[int(key.removeprefix("task-"))]
                with working_folder(target_folder, identity) as work:
                    lines.append(_align(context, work, draft, own, budget, title))
        return "; ".join(lines) or "no trainable draft in the pool"


def _align(
    context: RunContext,
    work: Path,
    draft: str,
    answers: list[StoredAnswer],
    budget: int,
    title: str,
) -> str:
    """Align a fresh copy of one draft to one set of answers."""
    choice = context.recipe.draft.pool[draft]
    drafter_class = context.registry.get("drafter", choice.use)
    assert issubclass(drafter_class, TrainableDrafter)
    options = make_plugin_options(context.registry, "drafter", choice)
    drafter = drafter_class.load(draft_folder(context, draft), context.target, options)
    report = teach(
        context,
        work / "training",
        drafter,
        context.recipe.align,
        answers,
        tokens=budget,
        learning_rate=context.recipe.align.learning_rate,
        label=f"aligning {draft} to {title}",
        export=work / "draft",
    )
    return f"{draft} to {title}: {report.tokens:,} tokens in {report.seconds:.0f} s"


def task_key(label: int) -> str:
    """How a task is called in folder and draft names."""
    return f"task-{label}"


def trainable_drafts(context: RunContext) -> list[str]:
    """Names of the pool's drafts that an aligner can train."""
    return [
        name
        for name, choice in context.recipe.draft.pool.items()
        if issubclass(context.registry.get("drafter", choice.use), TrainableDrafter)
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
    if aligner.adapts:
        return DraftEntry(name, choice, draft_folder(context, draft), folder)
    return DraftEntry(name, choice, folder)


def task_entries(context: RunContext, label: int) -> list[DraftEntry]:
    """The drafts that compete for a task: aligned to it where they can be, else as they are."""
    trainable = trainable_drafts(context)
    return [
        aligned_entry(context, draft, task_key(label))
        if draft in trainable
        else base_entry(context, draft)
        for draft in context.recipe.draft.pool
    ]
