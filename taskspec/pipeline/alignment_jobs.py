"""The alignments of a run: which draft learns what, from where, and how one is done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taskspec.corpus.answers import StoredAnswer
from taskspec.decoding.records import Request
from taskspec.interfaces import Aligner, DraftCorpus, TrainableDrafter
from taskspec.pipeline.artifacts import digest, results_of, write_json
from taskspec.pipeline.context import RunContext
from taskspec.pipeline.draft import draft_folder, drafter_class, split_answers
from taskspec.pipeline.halving import planned_share
from taskspec.pipeline.parity import check_parity
from taskspec.pipeline.partition import load_tasks
from taskspec.pipeline.teaching import Course, teach
from taskspec.pipeline.together import do_together
from taskspec.pipeline.verifiers import plain_verifier
from taskspec.recipe.choice import PluginChoice
from taskspec.recipe.plugins import make_plugin, make_plugin_options
from taskspec.serving.pool import DraftEntry, load_pool
from taskspec.training.earlier import Earlier

SINGLE, SHARED = "single", "shared"
PARITY, COST, WEIGHTS = "parity.json", "cost.json", "weights.safetensors"
_PARITY_TOKENS = 16


@dataclass(frozen=True)
class Job:
    """One alignment.

    Attributes:
        draft: Name of the draft in the pool.
        key: `task-0`, `single` or `shared`.
        title: What it is aligned to, for people.
        aligner: By which aligner.
        start: Folder of the draft it starts from.
        answers: What it learns from.
        held_out: What scores it meanwhile.
        tokens: For how long.
        earlier: What it goes on from, with `start` as that did.
        part: Which part of it this is, when another part goes on from it; empty for the whole or
            the last one, which delivers the draft.
    """

    draft: str
    key: str
    title: str
    aligner: PluginChoice
    start: Path
    answers: Sequence[StoredAnswer]
    held_out: Sequence[StoredAnswer]
    tokens: int
    earlier: Earlier | None = None
    part: str = ""

    @property
    def name(self) -> str:
        """Of the draft that it makes."""
        return f"{self.draft}@{self.key}"

    @property
    def folder(self) -> str:
        """Name of its folder."""
        return f"{self.name}.{self.part}" if self.part else self.name


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


def corpus_drafts(context: RunContext) -> list[str]:
    """Names of the pool's drafts that learn from the corpus without training."""
    trainable = trainable_drafts(context)
    return [
        name
        for name in context.recipe.draft.pool
        if drafter_class(context, name).learns_from_corpus and name not in trainable
    ]


def searches(context: RunContext) -> bool:
    """Whether drafts are dropped on the way: the recipe says so, and there is a choice."""
    return context.recipe.align.search.rounds > 1 and len(trainable_drafts(context)) > 1


def task_tokens(context: RunContext, tasks: int) -> int:
    """Answer tokens of each task's draft: those that the recipe names, or a search can afford."""
    align, drafts = context.recipe.align, len(trainable_drafts(context))
    if not searches(context) or align.search.tokens is None:
        return align.tokens
    # Each draft's start on all tasks, the rounds, and the one draft that stays with all tasks.
    alone = (planned_share(drafts, align.search) + 1) * (1 - align.shared)
    planned = tasks * (drafts * align.shared + alone)
    return max(1, min(align.tokens, int(align.search.tokens / planned)))


def plan_jobs(context: RunContext, folder: Path) -> tuple[list[Job], list[Job]]:
    """The jobs that come first, on all tasks' prompts, and those that go on from them.

    Args:
        context: The run.
        folder: Where the stage works; jobs start from one another's results there.
    """
    align = context.recipe.align
    tasks = load_tasks(context.stage_folders["partition"])
    train, held = (split_answers(context, split) for split in ("train", "validation"))
    count = len(tasks.names)
    own, own_held = (
        [[a for a in each if tasks.labels[a.id] == label] for label in range(count)]
        for each in (train, held)
    )
    kept, kept_held = ([a for part in each for a in part] for each in (own, own_held))
    tokens = task_tokens(context, count)
    everything = tokens * count
    shared = round(everything * align.shared)
    each_tokens = max(1, round(tokens * (1 - align.shared)))
    first, then = [], []
    for draft in trainable_drafts(context):
        start, aligner = draft_folder(context, draft), align.aligner_of(draft)
        if shared:
            first.append(
                Job(draft, SHARED, "all tasks", align.recovery, start, kept, kept_held, shared)
            )
            start = folder / first[-1].name / "draft"
        for label, name in enumerate(tasks.names):
            course = own[label], own_held[label], each_tokens
            then.append(Job(draft, task_key(label), name, aligner, start, *course))
        rest = kept, kept_held, everything - shared
        then.append(Job(draft, SINGLE, "all tasks, alone", aligner, start, *rest))
    return first, then


def bring_up(context: RunContext, folder: Path, job: Job, settings: Any) -> list[str]:
    """Do a job unless an interrupted run has done it.

    Args:
        context: The run.
        folder: The stage's, in which the job's lies.
        job: The job.
        settings: The stage's, of which the piece's fingerprint is made.
    """
    # What concerns other drafts alone is left out, so that a changed pool costs what is new in it.
    own = {name: value for name, value in settings.items() if name not in ("drafts", "search")}
    aligner = context.plugin_identity("aligner", job.aligner)
    read = [context.stage_folders[stage] for stage in ("collect", "partition")]
    read += [job.start.parent, *([] if job.earlier is None else [job.earlier.weights.parent])]
    identity = digest([own, aligner, job.folder, job.tokens, *results_of(read)])
    return do_together(
        context, folder / job.folder, identity, lambda work: do_job(context, work, job)
    )


def do_job(context: RunContext, work: Path, job: Job) -> str:
    """Align a fresh copy of one draft, deliver it into `work`, and show that it is the same."""
    drafter = _load(context, job)
    title = f"{job.title}, {job.part.replace('-', ' ')}" if job.part else job.title
    report = teach(
        context,
        work / "training",
        drafter,
        Course(
            job.aligner,
            job.answers,
            job.held_out,
            job.tokens,
            context.recipe.align.learning_rate,
            f"aligning {job.draft} to {title}",
            job.earlier,
        ),
        export=work / "draft",
        weights=work / WEIGHTS if job.part else None,
    )
    if context.writes:
        write_json(work / COST, {"tokens": report.tokens})
    if context.writes and not job.part:
        _check(context, work, job, drafter)
    score = report.held_out.get("val_alpha")
    held = "" if score is None else f", held-out acceptance {score:.2f}"
    return f"{job.draft} to {title}: {report.tokens:,} tokens in {report.seconds:.0f} s{held}"


def _load(context: RunContext, job: Job, exact: bool = False) -> TrainableDrafter:
    choice = context.recipe.draft.pool[job.draft]
    options = make_plugin_options(context.registry, "drafter", choice)
    target = context.target_in_float32 if exact else context.target
    drafter = drafter_class(context, job.draft).load(job.start, target, options)
    assert isinstance(drafter, TrainableDrafter)
    if job.key not in (SINGLE, SHARED):
        prompts, answers = [a.prompt_ids for a in job.answers], [a.answer_ids for a in job.answers]
        drafter.specialise(DraftCorpus(prompts, answers))
    return drafter


def _check(context: RunContext, work: Path, job: Job, drafter: TrainableDrafter) -> None:
    """Hold what was delivered against what was trained; writes what was seen.

    Raises:
        ParityError: When they differ.
    """
    count = context.recipe.align.parity_prompts
    answers = [*job.held_out, *job.answers][:count]
    if not answers:
        return
    target = context.target_in_float32
    # What a draft reads of its target it reads in float32 here, so the weights go to another one.
    trained = _load(context, job, exact=True)
    trained.module = drafter.module.to(target.device)
    choice = context.recipe.draft.pool[job.draft]
    aligner = make_plugin(context.registry, "aligner", job.aligner)
    assert isinstance(aligner, Aligner)
    folders = (job.start, work / "draft") if aligner.adapts else (work / "draft", None)
    pool = load_pool([DraftEntry(job.name, choice, *folders)], context.registry, target)
    requests = [Request(each.id, each.prompt_ids, _PARITY_TOKENS) for each in answers]
    verifier = plain_verifier(context.registry, greedy=True)
    write_json(
        work / PARITY,
        vars(check_parity(trained, pool, job.name, target, requests, verifier)),
    )
