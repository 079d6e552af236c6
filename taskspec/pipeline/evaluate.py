"""Stage 8: what it all brought, on held-out prompts."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from taskspec.corpus.examples import ALL_TASKS
from taskspec.decoding.engine import Engine
from taskspec.evaluation.clustering import ClusteringScore
from taskspec.evaluation.matrix import Matrix, Timing
from taskspec.evaluation.routing import to_json as routed_to_json
from taskspec.evaluation.table import (
    Clustering,
    Lossless,
    Results,
    RouterScore,
    VerifierUsed,
    from_json,
    to_json,
)
from taskspec.pipeline.artifacts import write_atomically
from taskspec.pipeline.assign import load_assignment, pool_entries
from taskspec.pipeline.comparing import prompt_hash
from taskspec.pipeline.context import RunContext, plain
from taskspec.pipeline.entries import decode_settings, engine_for
from taskspec.pipeline.environment import describe_evaluation
from taskspec.pipeline.held_out import HeldOut, check_lossless, held_out_prompts
from taskspec.pipeline.partition import load_tasks
from taskspec.pipeline.routes import run_router
from taskspec.pipeline.scores import Accuracy, clustering_score, route_held_out, task_reports
from taskspec.pipeline.stage import Stage
from taskspec.pipeline.table_rows import benchmark_rows, speed_regret, with_references
from taskspec.pipeline.timing import PLAIN, ROUTED, Methods, time_all
from taskspec.serving.pool import load_pool

RESULTS = "results.json"
ROUTING = "routing.jsonl"
TIMINGS = "timings.jsonl"


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
            "decode": decode_settings(context),
            "threshold": recipe.route.fixed_threshold,
            **({"quarantine": True} if recipe.route.quarantine else {}),
            "threads": recipe.threads,
            "seed": recipe.seed,
        }

    def run(self, context: RunContext, folder: Path) -> str:
        """Write what was measured.

        `timings.jsonl` holds every answer's time and steps, `routing.jsonl` where the router sent
        each held-out prompt, `results.json` what follows; the last is copied into the run's folder.
        """
        assigned = load_assignment(context.stage_folders["assign"])
        router = run_router(context, assigned)
        prompts = held_out_prompts(context, router)
        entries = pool_entries(context, assigned)
        lossless = check_lossless(context, entries, prompts)
        pool = load_pool(entries, context.registry, context.target)
        engine = engine_for(context, pool)
        methods = Methods(assigned, pool, prompts)
        timings = time_all(context, folder / TIMINGS, engine, router, pool, methods, prompts)
        clustering = clustering_score(context)
        score, routed_prompts = route_held_out(context, router, assigned, clustering)
        write_atomically(folder / ROUTING, routed_to_json(routed_prompts))
        results = _summarise(
            context, engine, methods, prompts, timings, lossless, clustering, score
        )
        write_atomically(folder / RESULTS, to_json(results))
        shutil.copy(folder / RESULTS, context.folder / RESULTS)
        routed = results.row(ROUTED)
        assert routed is not None
        return (
            f"routed {routed.speedup:.2f}x plain decoding ({routed.speedup_low:.2f}-"
            f"{routed.speedup_high:.2f}); "
            + (
                f"{lossless.mismatches} of {lossless.checked} answers differ in {lossless.dtype}"
                if lossless.checked
                else "answers not checked"
            )
        )


def _summarise(
    context: RunContext,
    engine: Engine,
    methods: Methods,
    prompts: Sequence[HeldOut],
    timings: Sequence[Timing],
    lossless: Lossless,
    clustering: ClusteringScore | None,
    router: RouterScore,
) -> Results:
    """Rows, scores and facts of the run."""
    tasks = {prompt.request.id: prompt.row for prompt in prompts}
    matrix = with_references(timings, methods, tasks, context.recipe.evaluate.resamples)
    accuracy = Accuracy(engine, prompts, context.recipe.collect.batch_size)
    table = benchmark_rows(matrix, methods, accuracy)
    steady = [t for t in timings if not any(own.looping for own in matrix.cell(PLAIN, t.prompt))]
    first = {prompt: median(t.first for t in matrix.cell(PLAIN, prompt)) for prompt in tasks}
    seconds = sum(matrix.seconds(PLAIN, prompt) for prompt in tasks)
    # The same is taken from every method, so that what a draft reads of a prompt stays its own.
    after = [replace(t, seconds=t.seconds - first[t.prompt]) for t in timings]
    stepped = any(t.steps for t in timings if t.method == PLAIN)
    return Results(
        rows=tuple(table),
        lossless=lossless,
        clustering=Clustering(
            None if clustering is None else clustering.accuracy,
            None if clustering is None else clustering.ari,
            len(load_tasks(context.stage_folders["partition"]).names),
        ),
        router=router,
        verifier=VerifierUsed(engine.verifier.name, engine.verifier.lossless),
        tasks=tuple(task_reports(context, prompts, timings)),
        speed_regret=speed_regret(matrix),
        speedup_without_looping=_speedup(steady),
        prompt_share=sum(first.values()) / seconds,
        speedup_after_prompts=_speedup(after) if stepped else None,
        environment={
            **describe_evaluation(context.recipe, context.registry),
            "fingerprint": context.target.fingerprint,
            "prompt_hash": prompt_hash(prompts),
        },
    )


def _speedup(timings: Sequence[Timing]) -> float | None:
    """The routed method's speed-up on these timings' prompts; None without any."""
    prompts = {timing.prompt: ALL_TASKS for timing in timings}
    if not prompts:
        return None
    matrix = Matrix(timings, prompts, 0)
    return matrix.speed(ROUTED, list(prompts)) / matrix.speed(PLAIN, list(prompts), ROUTED)


def load_results(folder: Path) -> Results:
    """The results, from the stage's folder."""
    return from_json((folder / RESULTS).read_text(encoding="utf-8"))
