"""Stage 5: each draft that can learn learns each task, and all of them together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from taskspec.pipeline.alignment_jobs import (
    SINGLE,
    Job,
    bring_up,
    corpus_drafts,
    plan_jobs,
    searches,
    task_key,
    trainable_drafts,
)
from taskspec.pipeline.artifacts import digest, finished, working_folder
from taskspec.pipeline.context import RunContext, plain
from taskspec.pipeline.draft import build_draft, split_answers, training_settings
from taskspec.pipeline.entries import decode_settings
from taskspec.pipeline.partition import load_tasks
from taskspec.pipeline.search import Search
from taskspec.pipeline.side_by_side import device_total, do_side_by_side
from taskspec.pipeline.stage import Stage


class Align(Stage):
    """Aligns every trainable draft to every task with the same budget each.

    What tasks have in common is learnt once: a share of the budget goes into one draft on all
    prompts, from which every task goes on alone. The same draft, going on on all prompts until
    it has had the budget of all tasks together, is the `single` row of the benchmark and the
    fallback of the router. A draft that learns from the corpus without training is built again
    from each task's answers.

    With a search, tasks drop the least promising drafts on the way, and only the draft that
    promises most over all of them goes on on all prompts: no other one's `single` is used.
    """

    name = "align"
    needs = ("collect", "partition", "draft")
    together = True
    salvages = True

    def settings(self, context: RunContext) -> Any:
        """The aligner, its budget and the seed; nothing at all where none is to align.

        A search's decisions rest on measurements, so what is measured belongs to it.
        """
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
            **({"drafts": _own_aligners(context)} if recipe.align.drafts else {}),
            **({"search": _search_settings(context)} if searches(context) else {}),
        }

    def run(self, context: RunContext, folder: Path) -> str:
        """Write `<draft>@<task>/` for each draft, trained ones with `@shared/` and `@single/`."""
        align = context.recipe.align
        if not align.enabled:
            return "left out: drafts stay as they were built"
        first, then = self.plan(context, folder)
        lines = self._do(context, folder, first)
        if searches(context):
            lines += self._search(context, folder, then)
        elif align.jobs == "side-by-side" and device_total(align.trainer) > 1:
            if context.writes:
                lines += do_side_by_side(context, folder, [job.name for job in then])
        else:
            lines += self._do(context, folder, then)
        if context.writes:
            lines += list(_build_corpus_drafts(context, folder))
        return "; ".join(lines) or "no draft in the pool learns"

    def plan(self, context: RunContext, folder: Path) -> tuple[list[Job], list[Job]]:
        """The jobs on all tasks' prompts, and those that go on from them."""
        return plan_jobs(context, folder)

    def _do(self, context: RunContext, folder: Path, jobs: Sequence[Job]) -> list[str]:
        settings = self.settings(context)
        return [line for job in jobs for line in bring_up(context, folder, job, settings)]

    def _search(self, context: RunContext, folder: Path, jobs: Sequence[Job]) -> list[str]:
        lines = []
        if context.writes:
            lines += list(_build_corpus_drafts(context, folder))
        own = [job for job in jobs if job.key != SINGLE]
        search = Search(context, folder, own, self.settings(context))
        lines += search.run()
        leader = search.record.leader(trainable_drafts(context))
        singles = [job for job in jobs if (job.draft, job.key) == (leader, SINGLE)]
        lines += self._do(context, folder, singles)
        search.tidy()
        return lines


def bring_job(context: RunContext, folder: Path, name: str) -> list[str]:
    """Do the job of this name unless an interrupted run has done it."""
    jobs = {job.name: job for each in plan_jobs(context, folder) for job in each}
    return bring_up(context, folder, jobs[name], Align().settings(context))


def _own_aligners(context: RunContext) -> Any:
    drafts = context.recipe.align.drafts
    return {name: context.plugin_identity("aligner", choice) for name, choice in drafts.items()}


def _search_settings(context: RunContext) -> Any:
    recipe = context.recipe
    assign = recipe.assign
    return {
        **plain(recipe.align.search),
        "draft_lengths": assign.draft_lengths,
        "prompts_per_task": assign.prompts_per_task,
        "max_new_tokens": assign.max_new_tokens,
        "decode": decode_settings(context),
        "threads": recipe.threads,
    }


def _build_corpus_drafts(context: RunContext, folder: Path) -> Iterator[str]:
    """Build drafts that learn without training from each task's answers, those not yet built."""
    answers = split_answers(context, "train")
    labels = load_tasks(context.stage_folders["partition"]).labels
    for draft in corpus_drafts(context):
        for label in sorted({labels[answer.id] for answer in answers} - {-1}):
            result = folder / f"{draft}@{task_key(label)}"
            own = [answer for answer in answers if labels[answer.id] == label]
            identity = digest([Align().settings(context), draft, label])
            if result.exists() or finished(result, identity):
                continue
            with working_folder(result, identity) as work:
                (work / "draft").mkdir(exist_ok=True)
                build_draft(context, draft, own).save(work / "draft")
            yield f"{draft} to {task_key(label)}: {len(own)} answers"
