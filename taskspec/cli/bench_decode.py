"""`taskspec bench decode`: how fast a bundle answers, beside other engines."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from taskspec.cli.held_out import held_out_prompts
from taskspec.cli.other_engines import ASSISTED_LENGTH
from taskspec.cli.sampling_options import SEEDS
from taskspec.cli.target_option import TargetOption

if TYPE_CHECKING:
    from rich.console import Console

    from taskspec.evaluation.bench_decode import DecodeBench
    from taskspec.serving.bundle import Bundle


def decode(
    bundle: Annotated[Path, typer.Argument(help="Bundle folder of a finished run.")],
    corpus: Annotated[
        str, typer.Option(help="Prompts; those of their test split are answered.")
    ] = "package:prompts/quickstart.jsonl",
    count: Annotated[int, typer.Option(help="Prompts, spread over the tasks.", min=1)] = 40,
    tokens: Annotated[int, typer.Option(help="Tokens of every answer.", min=2)] = 128,
    repeats: Annotated[
        int, typer.Option(help="Rounds; medians count. Batches take three turns in each.", min=1)
    ] = 3,
    batches: Annotated[
        str, typer.Option(help="Numbers of prompts to answer together, too, by commas.")
    ] = "",
    against: Annotated[
        str, typer.Option(help="Other engines, by commas; an empty text for none.")
    ] = "transformers,llama.cpp,openvino",
    python: Annotated[
        list[str] | None,
        typer.Option(help="ENGINE=INTERPRETER that has it, or a script that runs one."),
    ] = None,
    assistant: Annotated[
        str | None,
        typer.Option(help="A draft of the bundle over the whole vocabulary, for all that take it."),
    ] = None,
    gguf: Annotated[
        Path | None, typer.Option(help="The target's weights as a GGUF file.", exists=True)
    ] = None,
    correct: Annotated[
        bool, typer.Option("--correct", help="With in-flight correction, too.")
    ] = False,
    seed: Annotated[
        int, typer.Option(**SEEDS, help="Draws prompts, and splits where rows have none.")
    ] = 0,
    out: Annotated[Path | None, typer.Option(help="Write the figures there, as JSON.")] = None,
    target: TargetOption = None,
) -> None:
    """Decoding speed: plain, routed, every draft, and other engines on the same weights.

    All ways answer each prompt in turn, at batch 1, greedily, with exactly as many tokens; other
    engines do so in processes of their own. They are transformers, llama.cpp (install xllamacpp),
    openvino (openvino-genai), vllm, and flashspec with an assistant. All of them read every prompt
    whole, ours as well: no prefix is kept from one to the next.

    Examples:

        taskspec bench decode runs/quickstart/bundle --batches 8

        taskspec bench decode runs/quickstart/bundle --corpus my-prompts.jsonl --against ""

        taskspec bench decode runs/quickstart/bundle --correct --against ""

        taskspec bench decode runs/quickstart/bundle --against vllm --python vllm=vllm/bin/python
    """
    from rich.console import Console

    from taskspec.cli.other_engines import other_engines
    from taskspec.errors import TaskSpecError
    from taskspec.evaluation.bench_batches import TURNS
    from taskspec.evaluation.bench_decode import BenchPlan, bench_decode
    from taskspec.files import check_output
    from taskspec.pipeline.progress import progress
    from taskspec.registry import default_registry
    from taskspec.serving.bundle import load_bundle

    if out is not None:
        check_output(out)
    console = Console()
    sizes = _sizes(batches)
    loaded = load_bundle(bundle, default_registry(), target, prefixes=False)
    prompts = held_out_prompts(loaded, bundle, corpus, count, tokens, seed, console)
    if max(sizes, default=0) > len(prompts):
        raise TaskSpecError(
            f"--batches: there are {len(prompts)} prompts to answer, fewer than {max(sizes)} at "
            "once; ask for more by --count, or for fewer at once"
        )
    with tempfile.TemporaryDirectory() as scratch:
        others = other_engines(
            loaded, against, python or [], assistant, gguf, Path(scratch), console
        )
        draft = None if assistant is None else (assistant, ASSISTED_LENGTH)
        plan = BenchPlan(tokens, repeats, sizes, others, draft, correct)
        total = (len(prompts) + 2 * TURNS * len(sizes)) * repeats
        with progress(console, "answering", total) as advance:
            found = bench_decode(loaded, prompts, plan, lambda: advance(1))
    if out is not None:
        _write(found, loaded, seed, out)
    _show(found, console)


def _sizes(batches: str) -> list[int]:
    from taskspec.errors import TaskSpecError

    try:
        sizes = [int(each) for each in batches.split(",") if each.strip()]
    except ValueError:
        sizes = [0]
    if any(size < 2 for size in sizes):
        raise TaskSpecError(f"--batches: '{batches}' is no list of numbers above 1, such as 4,8,32")
    return sizes


def _show(found: DecodeBench, console: Console) -> None:
    from rich.markup import escape

    from taskspec.evaluation.table import figures_table

    tasks = found.methods[0].by_task
    speeds = figures_table("method", "tokens/s", "over plain")
    by_task = figures_table("over plain, by task", *tasks)
    costs = figures_table("draft", "k", "accepted", "tau", "c", "v(k+1)", "S", "efficiency")
    for each in found.methods:
        ratio, cost = each.ratio, each.cost
        interval = f"{ratio.value:.2f} ({ratio.low:.2f}-{ratio.high:.2f})"
        parts = (f"{each.by_task[task]:.2f}" for task in tasks)
        name = escape(each.name)
        speeds.add_row(name, f"{each.tokens_per_second:.1f}", interval)
        by_task.add_row(name, *parts)
        if cost is not None:
            observed = (each.acceptance_rate or 0.0, each.block_efficiency or 0.0)
            model = (cost.draft_ratio, cost.verify_ratio, cost.predicted, cost.efficiency)
            cells = (f"{figure:.2f}" for figure in observed + model)
            costs.add_row(name, str(cost.draft_length), *cells)
    several = figures_table(
        "prompts at once", "plain tokens/s", "over one", "routed", "over plain", "differ"
    )
    for batch in found.batches:
        low, high = batch.routed_range
        several.add_row(
            str(batch.rows),
            f"{batch.plain:.1f}",
            f"{batch.plain_ratio:.2f}",
            f"{batch.routed:.1f}",
            f"{batch.routed_ratio:.2f} ({low:.2f}-{high:.2f})",
            str(batch.differing),
        )
    for table in (speeds, by_task, costs, *([several] if found.batches else [])):
        console.print(table, "")
    for engine, said in found.failed.items():
        console.print(f"{engine} is left out: {said}", highlight=False, markup=False)
    steady = next(each.steady_ratio for each in found.methods if each.name == "routed")
    without = "" if steady is None else f" (routed without them {steady:.2f})"
    console.print(
        f"overhead o {found.overhead:.2f} of a pass of {found.pass_seconds[0] * 1e3:.1f} ms; "
        f"bandwidth {found.bandwidth / 1e9:.1f} GB/s, roofline fraction {found.roofline:.2f}; "
        f"peak memory {found.peak_memory / 2**20:,.0f} MiB; {found.looping:.0%} of the answers "
        f"loop{without}",
        highlight=False,
    )


def _write(found: DecodeBench, bundle: Bundle, seed: int, path: Path) -> None:
    import json
    from dataclasses import asdict

    from taskspec.pipeline.artifacts import write_atomically
    from taskspec.pipeline.environment import describe_environment
    from taskspec.registry import default_registry

    environment = {
        **describe_environment(default_registry()),
        "target": bundle.manifest.target,
        "fingerprint": bundle.target.fingerprint,
        "dtype": bundle.manifest.dtype,
        "seed": seed,
    }
    value = {**asdict(found), "roofline": found.roofline, "environment": environment}
    write_atomically(path, json.dumps(value, indent=2) + "\n")
