"""What an evaluation says besides speed: draft accuracy, clustering, routing, the prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import median

import numpy as np

from taskspec.corpus.examples import ALL_TASKS
from taskspec.corpus.overlap import ngram_overlap
from taskspec.decoding.engine import Engine
from taskspec.decoding.records import DraftChoice, StepRecord
from taskspec.evaluation.clustering import ClusteringScore, score_clustering
from taskspec.evaluation.matrix import Timing
from taskspec.evaluation.metrics import draft_accuracy
from taskspec.evaluation.routing import RoutedPrompt
from taskspec.evaluation.table import RouterScore, TaskReport
from taskspec.pipeline.assign import Assigned
from taskspec.pipeline.collect import load_examples
from taskspec.pipeline.context import RunContext
from taskspec.pipeline.encode import known_examples
from taskspec.pipeline.held_out import HeldOut
from taskspec.pipeline.partition import load_tasks
from taskspec.pipeline.timing import PLAIN, TimedPrompt
from taskspec.serving.routing import PromptRouter

_FORCED_LENGTH = 4


class Accuracy:
    """Draft accuracy of methods: u_1 with every draft forced to four tokens, in batches."""

    def __init__(self, engine: Engine, prompts: Sequence[TimedPrompt], batch: int) -> None:
        self.engine, self.prompts, self.batch = engine, prompts, batch
        self._of_one_draft: dict[DraftChoice, dict[str, float | None]] = {}

    def of_one_draft(self, choice: DraftChoice) -> dict[str, float | None]:
        """Accuracy per task and over all of one draft for every prompt."""
        forced = replace(choice, draft_length=_FORCED_LENGTH)
        if forced not in self._of_one_draft:
            self._of_one_draft[forced] = self({p.request.id: forced for p in self.prompts})
        return self._of_one_draft[forced]

    def __call__(self, choices: Mapping[str, DraftChoice | None]) -> dict[str, float | None]:
        """Accuracy per task and over all, given each prompt's draft."""
        forced = [
            replace(p.request, draft=replace(choice, draft_length=_FORCED_LENGTH))
            for p in self.prompts
            if (choice := choices[p.request.id]) is not None
        ]
        steps = {result.id: result.steps for result in self.engine.generate(forced, self.batch)}
        rows: dict[str, list[StepRecord]] = {ALL_TASKS: []}
        for prompt in self.prompts:
            own = steps.get(prompt.request.id, ())
            rows.setdefault(prompt.row, []).extend(own)
            rows[ALL_TASKS].extend(own)
        return {name: draft_accuracy(each) for name, each in rows.items()}


def clustering_score(context: RunContext) -> ClusteringScore | None:
    """The partition of training and validation prompts against their labels, if they have any."""
    tasks = load_tasks(context.stage_folders["partition"])
    known = [e for e in load_examples(context.stage_folders["collect"]) if e.id in tasks.labels]
    if any(example.task is None for example in known):
        return None
    return score_clustering(
        [tasks.labels[example.id] for example in known],
        [example.task for example in known if example.task is not None],
    )


def route_held_out(
    context: RunContext,
    router: PromptRouter,
    assigned: Assigned,
    clustering: ClusteringScore | None,
) -> tuple[RouterScore, list[RoutedPrompt]]:
    """Accuracy and latency over all held-out prompts, and where each of them went.

    A router that learnt what is fastest knows no tasks, so has no accuracy.
    """
    held = [e for e in load_examples(context.stage_folders["collect"]) if e.split == "test"]
    routes = [router.route(example.prompt_text) for example in held]
    right_task, right_draft = None, None
    matching: Mapping[int, str] = {}
    labelled = clustering is not None and all(example.task is not None for example in held)
    if clustering is not None and labelled and context.recipe.route.labels == "task":
        matching = clustering.matching
        drafts = {task: assigned.tasks[label].draft for label, task in matching.items()}
        right_task = float(
            np.mean(
                [
                    matching.get(-1 if r.label is None else r.label) == e.task
                    for r, e in zip(routes, held, strict=True)
                ]
            )
        )
        right_draft = float(
            np.mean(
                [
                    e.task in drafts and r.assignment.draft == drafts[e.task]
                    for r, e in zip(routes, held, strict=True)
                ]
            )
        )
    score = RouterScore(
        right_task,
        right_draft,
        1000 * median(route.seconds for route in routes),
        float(np.mean([route.label is None for route in routes])),
    )
    prompts = [
        RoutedPrompt(
            example.id,
            example.task if labelled else None,
            None if route.label is None else route.assignment.task,
            matching.get(route.label) == example.task
            if matching and route.label is not None
            else None,
            route.probability,
        )
        for example, route in zip(held, routes, strict=True)
    ]
    return score, prompts


def task_reports(
    context: RunContext, prompts: Sequence[HeldOut], timings: Sequence[Timing]
) -> list[TaskReport]:
    """What each task's held-out prompts share with training, and how they were decoded."""
    known = known_examples(context)
    train = [example.prompt_text for example in known if example.split == "train"]
    looping = {timing.prompt: timing.looping for timing in timings if timing.method == PLAIN}
    reports = []
    for name in dict.fromkeys(prompt.row for prompt in prompts):
        own = [prompt for prompt in prompts if prompt.row == name]
        routes = [prompt.route.assignment for prompt in own]
        reports.append(
            TaskReport(
                task=name,
                found=tuple(dict.fromkeys(route.task for route in routes)),
                drafts=tuple(dict.fromkeys(route.draft or PLAIN for route in routes)),
                overlap=ngram_overlap(train, [prompt.example.prompt_text for prompt in own]),
                looping=float(np.mean([looping[prompt.request.id] for prompt in own])),
            )
        )
    return reports
