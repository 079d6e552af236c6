"""`taskspec bench corpus`: the benchmark table on any prompts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from taskspec.cli.sampling_options import SEEDS
from taskspec.cli.target_option import TargetOption

_TURNS = ("first", "all")


def corpus(
    subject: Annotated[Path, typer.Argument(help="Folder of a finished run, or of a bundle.")],
    prompts: Annotated[str, typer.Argument(help="Prompts in any format that recipes read.")],
    turns: Annotated[str, typer.Option(help="first, or all turns of each conversation.")] = "first",
    per_task: Annotated[
        int, typer.Option(help="Conversations of each task; 0 for all.", min=0)
    ] = 10,
    tokens: Annotated[int, typer.Option(help="Most tokens of an answer.", min=2)] = 48,
    repeats: Annotated[int, typer.Option(help="Rounds; medians count.", min=1)] = 2,
    seed: Annotated[int, typer.Option(**SEEDS, help="Draws the conversations.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="Folder for results.json and timings to go on from.")
    ] = None,
    target: TargetOption = None,
) -> None:
    """Every method of a run's table on other prompts, such as Spec-Bench's questions.

    Plain, vanilla, single, best-single, prompt-lookup, random, routed and oracle, as far as the
    drafts are there, interleaved, one prompt at a time, with 95 % intervals.

    Examples:

        taskspec bench corpus runs/quickstart my-prompts.jsonl

        taskspec bench corpus runs/quickstart question.jsonl --turns all --out bench/spec-bench
    """
    from rich.console import Console

    from taskspec.corpus.readers import read_examples
    from taskspec.errors import TaskSpecError
    from taskspec.evaluation.comparison import render
    from taskspec.pipeline.bench_corpus import CorpusPlan, bench_corpus
    from taskspec.pipeline.comparing import check_place
    from taskspec.pipeline.subject import open_subject
    from taskspec.recipe.corpus_path import resolve_corpus
    from taskspec.registry import default_registry

    if turns not in _TURNS:
        raise TaskSpecError(f"--turns is first or all, not '{turns}'")
    check_place(out)
    console, registry = Console(), default_registry()
    examples = read_examples(resolve_corpus(prompts, None))
    loaded = open_subject(subject, registry, console, target)
    plan = CorpusPlan(turns, per_task, tokens, repeats, seed=seed)
    found = bench_corpus(loaded, registry, examples, plan, console, out)
    title = f"{prompts}, {'every turn' if turns == 'all' else 'first turns'}"
    render(found, title, console)
