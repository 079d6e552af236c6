"""The rows that every benchmark table has, from the timings of its methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from taskspec.evaluation.matrix import Matrix, Timing
from taskspec.evaluation.table import ResultRow
from taskspec.pipeline.scores import Accuracy
from taskspec.pipeline.timing import PLAIN, ROUTED, Methods

RANDOM, ORACLE, BEST_SINGLE = "random", "oracle", "best-single"
_BASELINES = (PLAIN, "vanilla", "single", BEST_SINGLE, "prompt-lookup")


def with_references(
    timings: Sequence[Timing], methods: Methods, tasks: Mapping[str, str], resamples: int
) -> Matrix:
    """The timings with those of a router that draws, and of one that knows."""
    measured = Matrix(timings, tasks, resamples)
    candidates = {prompt: methods.candidates(prompt) for prompt in tasks}
    extra = [
        *measured.random(methods.pool_methods, RANDOM),
        *measured.oracle(candidates, ORACLE),
    ]
    return Matrix([*timings, *extra], tasks, resamples)


def benchmark_rows(matrix: Matrix, methods: Methods, accuracy: Accuracy | None) -> list[ResultRow]:
    """Every row there are drafts for, per task and over all.

    Args:
        matrix: What `with_references` gives.
        methods: What was timed.
        accuracy: Measures draft accuracy; None leaves it out.
    """
    rows: list[ResultRow] = []
    for method in _BASELINES:
        best = method == BEST_SINGLE
        source = matrix.best_single(methods.pool_methods) if best else methods.source(method)
        if source not in methods.choices:
            continue
        choice = methods.choices[source]
        found = {} if choice is None or accuracy is None else accuracy.of_one_draft(choice)
        rows += [replace(row, method=method) for row in matrix.rows(source, found)]
    rows += matrix.rows(RANDOM, {})
    rows += matrix.rows(ROUTED, {} if accuracy is None else accuracy(methods.routed))
    rows += matrix.rows(ORACLE, {})
    return rows


def speed_regret(matrix: Matrix) -> float:
    """1 - S_routed / S_oracle, on the repeats that both have."""
    prompts = list(matrix.tasks)
    return 1 - matrix.speed(ROUTED, prompts, ORACLE) / matrix.speed(ORACLE, prompts)
