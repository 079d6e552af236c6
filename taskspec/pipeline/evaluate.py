"""Stage 8: what it all brought, on held-out prompts."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from taskspec.corpus.answers import is_looping
from taskspec.corpus.examples import Example
from taskspec.corpus.overlap import ngram_overlap
from taskspec.decoding.engine import Engine
from taskspec.decoding.records import DraftChoice, Request, StepRecord
from taskspec.evaluation.clustering import ClusteringScore, score_clustering
from taskspec.evaluation.matrix import ALL, Matrix, Timing
from taskspec.evaluation.metrics import draft_accuracy
from taskspec.evaluation.table import (
    Clustering,
    Lossless,
    ResultRow,
    Results,
    RouterScore,
    TaskReport,
    from_json,
    to_json,
)
from taskspec.interfaces import Sampling
from taskspec.models.loading import load_language_model
from taskspec.pipeline.align import task_entries
from taskspec.pipeline.artifacts import write_atomically
from taskspec.pipeline.assign import (
    Assigned,
    baseline_entries,
    engine_for,
    load_assignment,
    sampling_of,
)
from taskspec.pipeline.collect import load_examples
from taskspec.pipeline.context import RunContext, plain
from taskspec.pipeline.environment import describe_environment
from taskspec.pipeline.partition import load_tasks
from taskspec.pipeline.progress import progress
from taskspec.pipeline.speed import decode_timed
from taskspec.pipeline.stage import Stage
from taskspec.pipeline.verifiers import make_verifier
from taskspec.recipe.schema import PluginChoice
from taskspec.serving.pool import DraftEntry, Pool, load_pool
from taskspec.serving.routing import PromptRouter, Route, load_prompt_router

RESULTS = "results.json"
PLAIN, ROUTED = "plain", "routed"
_FORCED_LENGTH = 4
_TIMINGS = "timings.jsonl"


@dataclass(frozen=True)
class _Prompt:
    """A held-out prompt: its request without a draft, its row in the tables, its route."""

    request: Request
    example: Example
    row: str
    route: Route


class Evaluate(Stage):
    """Times every method on the same held-out prompts, interleaved, one prompt at a time.

    Also compares greedy answers with plain decoding's in float32, and scores partition and
    router against known labels where prompts have them.
    """

    name = "evaluate"
    needs = ("collect", "partition", "draft", "align", "assign", "route")

    def settings(self, context: RunContext) -> Any:
        """Sample sizes, decoding and threads."""
        recipe = context.recipe
        return {
            "evaluate": plain(recipe.evaluate),
            "decode": plain(recipe.decode),
            "threshold": recipe.route.threshold,
            "threads": recipe.threads,
            "seed": recipe.seed,
        }

    def run(self, context: RunContext, folder: Path) -> str:
        """Write `results.json` and `timings.jsonl`, and copy the results into the run's folder."""
        assigned = load_assignment(context.stage_folders["assign"])
        router = load_prompt_router(
            context.stage_folders["route"],
            context.recipe.route,
            context.registry,
            assigned.tasks,
            assigned.fallback,
        )
        prompts = _held_out(context, router)
        lossless = _check_lossless(context, assigned, prompts)
        pool = load_pool(pool_entries(context, assigned), context.registry, context.target)
        engine = engine_for(context, pool)
        methods = _Methods(assigned, pool, prompts)
        timings = _time_all(context, folder / _TIMINGS, engine, router, pool, methods, prompts)
        results = _summarise(context, engine, methods, prompts, timings, router, lossless)
        write_atomically(folder / RESULTS, to_json(results))
        shutil.copy(folder / RESULTS, context.folder / RESULTS)
        routed = results.row(ROUTED)
        assert routed is not None
        return (
            f"routed {routed.speedup:.2f}x plain decoding ({routed.speedup_low:.2f}-"
            f"{routed.speedup_high:.2f}); {lossless.mismatches} of {lossless.checked} answers "
            f"differ in {lossless.dtype}"
        )


class _Methods:
    """The methods to time: each a draft for all prompts, but the routed one.

    Methods that mean the same draft at the same length are timed once.
    """

    def __init__(self, assigned: Assigned, pool: Pool, prompts: Sequence[_Prompt]) -> None:
        self.pool_methods: list[str] = []
        self.choices: dict[str, DraftChoice | None] = {PLAIN: None}
        self.alias: dict[str, str] = {}
        for method, baseline in assigned.baselines.items():
            self._add(method, pool.choice(baseline.draft, baseline.draft_length))
        lengths: dict[str | None, int] = {}
        for assignment in assigned.tasks:
            lengths.setdefault(assignment.draft, assignment.draft_length)
        for draft, length in lengths.items():
            name = PLAIN if draft is None else f"pool {draft}"
            if draft is not None:
                self._add(name, pool.choice(draft, length))
            self.pool_methods.append(self.alias.get(name, name))
        self.routed = {
            p.request.id: pool.choice(p.route.assignment.draft, p.route.assignment.draft_length)
            for p in prompts
        }

    def _add(self, name: str, choice: DraftChoice | None) -> None:
        same = next((n for n, c in self.choices.items() if c == choice), None)
        if same is not None:
            self.alias[name] = same
        else:
            self.choices[name] = choice

    def timed(self) -> list[str]:
        """Names of what is timed."""
        return [*self.choices, ROUTED]

    def source(self, method: str) -> str:
        """Under which name a method was timed."""
        return self.alias.get(method, method)


def pool_entries(context: RunContext, assigned: Assigned) -> list[DraftEntry]:
    """Every draft that an assignment or a baseline names."""
    known = {
        entry.name: entry
        for label in range(len(assigned.tasks))
        for entry in task_entries(context, label)
    } | {entry.name: entry for entry in baseline_entries(context).values()}
    named = [*assigned.tasks, *assigned.baselines.values(), assigned.fallback]
    used = dict.fromkeys(each.draft for each in named if each.draft is not None)
    return [known[name] for name in used]


def _held_out(context: RunContext, router: PromptRouter) -> list[_Prompt]:
    """The held-out prompts to decode: a seeded draw from every known (else found) task."""
    recipe = context.recipe
    examples = [e for e in load_examples(context.stage_folders["collect"]) if e.split == "test"]
    labelled = all(example.task is not None for example in examples)
    groups: dict[str, list[tuple[Example, Route]]] = {}
    for example in examples:
        route = router.route(example.prompt_text)
        name = example.task if labelled and example.task else route.assignment.task
        groups.setdefault(name, []).append((example, route))
    prompts = []
    for name, members in groups.items():
        count = min(recipe.evaluate.prompts_per_task, len(members))
        for example, route in random.Random(recipe.seed).sample(members, count):
            ids = context.target.chat_ids(example.messages, recipe.target.system)
            request = Request(
                example.id,
                ids,
                recipe.evaluate.max_new_tokens,
                sampling_of(context),
                seed=recipe.seed,
            )
            prompts.append(_Prompt(request, example, name, route))
    return prompts


def _check_lossless(
    context: RunContext, assigned: Assigned, prompts: Sequence[_Prompt]
) -> Lossless:
    """Decode greedily in float32 with the routed drafts and plainly; compare token for token."""
    recipe = context.recipe
    chosen = prompts[: recipe.evaluate.lossless_prompts]
    if not chosen:
        return Lossless(0, 0, "float32")
    target = load_language_model(recipe.target.model, "float32", recipe.target.device)
    pool = load_pool(pool_entries(context, assigned), context.registry, target)
    verifier = make_verifier(context.registry, PluginChoice(use="greedy"))
    engine = Engine(target, verifier, pool.drafters)
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
        expected = engine.generate(greedy, batch)
        advance(len(chosen))
        found = engine.generate(drafted, batch)
        advance(len(chosen))
    differing = sum(a.tokens != b.tokens for a, b in zip(expected, found, strict=True))
    return Lossless(len(chosen), differing, "float32")


def _time_all(
    context: RunContext,
    path: Path,
    engine: Engine,
    router: PromptRouter,
    pool: Pool,
    methods: _Methods,
    prompts: Sequence[_Prompt],
) -> list[Timing]:
    """Every prompt by every method, methods in rotated order; goes on where it was stopped."""
    timings = _read_timings(path)
    done = {(timing.prompt, timing.repeat) for timing in timings}
    repeats = context.recipe.evaluate.repeats
    names = methods.timed()

    def decode(prompt: _Prompt, method: str, repeat: int) -> Timing:
        def prepare() -> Request:
            if method != ROUTED:
                return replace(prompt.request, draft=methods.choices[method])
            assignment = router.route(prompt.example.prompt_text).assignment
            choice = pool.choice(assignment.draft, assignment.draft_length)
            return replace(prompt.request, draft=choice)

        timed = decode_timed(engine, prepare)
        choice = methods.routed[prompt.request.id] if method == ROUTED else methods.choices[method]
        return Timing(
            prompt.request.id,
            method,
            repeat,
            timed.seconds,
            len(timed.generation.tokens),
            timed.generation.steps,
            0 if choice is None else choice.draft_length,
        )

    with progress(context.console, "timing methods", repeats * len(prompts), len(done)) as advance:
        for method in names:
            decode(prompts[0], method, -1)
        for repeat in range(repeats):
            for index, prompt in enumerate(prompts):
                if (prompt.request.id, repeat) in done:
                    continue
                turn = (index + repeat * (len(names) // 2)) % len(names)
                new = [decode(prompt, m, repeat) for m in names[turn:] + names[:turn]]
                _append_timings(path, new)
                timings += new
                advance(1)
    return timings


def _append_timings(path: Path, timings: Sequence[Timing]) -> None:
    """Add one prompt's timings as one line, so that a line is whole or not there."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps([asdict(timing) for timing in timings]) + "\n")


def _read_timings(path: Path) -> list[Timing]:
    """What an interrupted attempt measured; a line cut by the interruption is dropped."""
    if not path.is_file():
        return []
    whole = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            whole.append(json.loads(line))
        except ValueError:
            continue
    write_atomically(path, "".join(json.dumps(line) + "\n" for line in whole))
    return [
        Timing(**{**each, "steps": tuple(StepRecord(**step) for step in each["steps"])})
        for line in whole
        for each in line
    ]


def _summarise(
    context: RunContext,
    engine: Engine,
    methods: _Methods,
    prompts: Sequence[_Prompt],
    timings: Sequence[Timing],
    router: PromptRouter,
    lossless: Lossless,
) -> Results:
    """Rows, scores and facts of the run."""
    tasks = {prompt.request.id: prompt.row for prompt in prompts}
    measured = Matrix(timings, tasks, context.recipe.evaluate.resamples)
    pool = methods.pool_methods
    extra = [*measured.random(pool, "random"), *measured.oracle(pool, "oracle")]
    matrix = Matrix([*timings, *extra], tasks, context.recipe.evaluate.resamples)
    accuracy = _Accuracy(context, engine, prompts)
    best = matrix.best_single(pool)
    table: list[ResultRow] = []
    for method in (PLAIN, "vanilla", "single", "best-single", "prompt-lookup"):
        source = best if method == "best-single" else methods.source(method)
        if source == PLAIN:
            found: Mapping[str, float | None] = {}
        elif source in methods.choices:
            choice = methods.choices[source]
            found = accuracy({prompt.request.id: choice for prompt in prompts})
        else:
            continue
        table += [replace(row, method=method) for row in matrix.rows(source, found)]
    table += matrix.rows("random", {})
    table += matrix.rows(ROUTED, accuracy(methods.routed))
    table += matrix.rows("oracle", {})
    clustering = _clustering(context)
    everything = list(tasks)
    return Results(
        rows=tuple(table),
        lossless=lossless,
        clustering=Clustering(
            None if clustering is None else clustering.accuracy,
            None if clustering is None else clustering.ari,
            len(router.assignments),
        ),
        router=_router_score(context, router, clustering),
        tasks=tuple(_task_reports(context, prompts)),
        speed_regret=1 - matrix.speed(ROUTED, everything) / matrix.speed("oracle", everything),
        environment={
            **describe_environment(context.registry),
            "target": context.recipe.target.model,
            "fingerprint": context.target.fingerprint,
            "dtype": context.recipe.target.dtype,
            "temperature": context.recipe.decode.temperature,
            "seed": context.recipe.seed,
        },
    )


class _Accuracy:
    """Draft accuracy of methods: u_1 with every draft forced to four tokens, in batches."""

    def __init__(self, context: RunContext, engine: Engine, prompts: Sequence[_Prompt]) -> None:
        self.context, self.engine, self.prompts = context, engine, prompts

    def __call__(self, choices: Mapping[str, DraftChoice | None]) -> dict[str, float | None]:
        """Accuracy per task and over all, given each prompt's draft."""
        batch = self.context.recipe.collect.batch_size
        forced = [
            replace(p.request, draft=replace(choice, draft_length=_FORCED_LENGTH))
            for p in self.prompts
            if (choice := choices[p.request.id]) is not None
        ]
        steps = {result.id: result.steps for result in self.engine.generate(forced, batch)}
        rows: dict[str, list[StepRecord]] = {ALL: []}
        for prompt in self.prompts:
            own = steps.get(prompt.request.id, ())
            rows.setdefault(prompt.row, []).extend(own)
            rows[ALL].extend(own)
        return {name: draft_accuracy(each) for name, each in rows.items()}


def _clustering(context: RunContext) -> ClusteringScore | None:
    """The partition of training and validation prompts against their labels, if they have any."""
    tasks = load_tasks(context.stage_folders["partition"])
    known = [e for e in load_examples(context.stage_folders["collect"]) if e.id in tasks.labels]
    if any(example.task is None for example in known):
        return None
    return score_clustering(
        [tasks.labels[example.id] for example in known],
        [example.task for example in known if example.task is not None],
    )


def _router_score(
    context: RunContext, router: PromptRouter, clustering: ClusteringScore | None
) -> RouterScore:
    """Accuracy and latency over all held-out prompts."""
    held = [e for e in load_examples(context.stage_folders["collect"]) if e.split == "test"]
    routes = [router.route(example.prompt_text) for example in held]
    right_task, right_draft = None, None
    if clustering is not None and all(example.task is not None for example in held):
        matching = clustering.matching
        drafts = {task: router.assignments[label].draft for label, task in matching.items()}
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
    return RouterScore(
        right_task,
        right_draft,
        1000 * median(route.seconds for route in routes),
        float(np.mean([route.label is None for route in routes])),
    )


def _task_reports(context: RunContext, prompts: Sequence[_Prompt]) -> list[TaskReport]:
    """What each task's held-out prompts share with training, and how they were decoded."""
    examples = load_examples(context.stage_folders["collect"])
    train = [example.prompt_text for example in examples if example.split == "train"]
    verifier = make_verifier(context.registry, PluginChoice(use="greedy"))
    engine = Engine(context.target, verifier)
    requests = [replace(prompt.request, sampling=Sampling()) for prompt in prompts]
    answers = {
        result.id: result.tokens
        for result in engine.generate(requests, context.recipe.collect.batch_size)
    }
    reports = []
    for name in dict.fromkeys(prompt.row for prompt in prompts):
        own = [prompt for prompt in prompts if prompt.row == name]
        loops = [is_looping(answers[prompt.request.id]) for prompt in own]
        routes = [prompt.route.assignment for prompt in own]
        reports.append(
            TaskReport(
                task=name,
                found=tuple(dict.fromkeys(route.task for route in routes)),
                drafts=tuple(dict.fromkeys(route.draft or PLAIN for route in routes)),
                overlap=ngram_overlap(train, [prompt.example.prompt_text for prompt in own]),
                looping=float(np.mean(loops)),
            )
        )
    return reports


def load_results(folder: Path) -> Results:
    """The results, from the stage's folder."""
    return from_json((folder / RESULTS).read_text(encoding="utf-8"))
