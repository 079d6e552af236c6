"""`taskspec bench decode`: how fast a bundle answers, beside other engines."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from taskspec.cli.held_out import held_out_prompts

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

    from taskspec.evaluation.bench_decode import DecodeBench
    from taskspec.evaluation.bench_engines import Generate
    from taskspec.serving.bundle import Bundle

OTHERS = ("transformers", "llama.cpp", "openvino")


def decode(
    bundle: Annotated[Path, typer.Argument(help="Bundle folder of a finished run.")],
    corpus: Annotated[
        str, typer.Option(help="Prompts; those of their test split are answered.")
    ] = "package:prompts/quickstart.jsonl",
    count: Annotated[int, typer.Option(help="Prompts, spread over the tasks.", min=1)] = 40,
    tokens: Annotated[int, typer.Option(help="Tokens of every answer.", min=2)] = 128,
    repeats: Annotated[int, typer.Option(help="Rounds; medians count.", min=1)] = 3,
    against: Annotated[
        str, typer.Option(help="Other engines, by commas; an empty text for none.")
    ] = ",".join(OTHERS),
    assistant: Annotated[
        str | None, typer.Option(help="A draft for transformers' assisted generation.")
    ] = None,
    gguf: Annotated[
        Path | None, typer.Option(help="The target's weights as a GGUF file.", exists=True)
    ] = None,
    seed: Annotated[int, typer.Option(help="Draws prompts, and splits where rows have none.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Write the figures there, as JSON.")] = None,
) -> None:
    """Decoding speed: plain, routed, every draft, and other engines on the same weights.

    All ways answer each prompt in turn, at batch 1, greedily, with exactly as many tokens. For
    other engines, install transformers (it is), xllamacpp (llama.cpp) or openvino-genai.

    Examples:

        taskspec bench decode runs/quickstart/bundle

        taskspec bench decode runs/quickstart/bundle --corpus my-prompts.jsonl --against ""
    """
    from rich.console import Console
    from rich.progress import Progress

    from taskspec.evaluation.bench_decode import bench_decode
    from taskspec.registry import default_registry
    from taskspec.serving.bundle import load_bundle

    console = Console()
    loaded = load_bundle(bundle, default_registry())
    prompts = held_out_prompts(loaded, corpus, count, tokens, seed)
    others = _others(loaded, against, assistant, gguf, console)
    with Progress(console=console, transient=True) as progress:
        bar = progress.add_task("answering", total=len(prompts) * repeats)
        found = bench_decode(
            loaded, prompts, tokens, repeats, others, lambda _: progress.advance(bar)
        )
    _show(found, console)
    if out is not None:
        _write(found, out)


def _others(
    bundle: Bundle, against: str, assistant: str | None, gguf: Path | None, console: Console
) -> dict[str, Callable[[], Generate]]:
    """Loaders of the engines that are wanted and there."""
    import importlib.util

    from taskspec.errors import TaskSpecError

    wanted = [name.strip() for name in against.split(",") if name.strip()]
    unknown = sorted(set(wanted) - set(OTHERS))
    if unknown:
        raise TaskSpecError(
            f"--against: unknown engine '{unknown[0]}'; choose among {', '.join(OTHERS)}"
        )
    found: dict[str, Callable[[], Generate]] = {}
    if "transformers" in wanted:
        found |= _transformers(bundle, assistant)
    modules = {"llama.cpp": "xllamacpp", "openvino": "openvino_genai"}
    for name in wanted:
        module = modules.get(name)
        if module is not None and importlib.util.find_spec(module) is None:
            console.print(f"{name} is left out: pip install {module.replace('_', '-')}")
        elif module is not None:
            found |= _gguf_readers(bundle, name, gguf, console)
    return found


def _transformers(bundle: Bundle, folder: str | None) -> dict[str, Callable[[], Generate]]:
    from taskspec.evaluation.bench_engines import assistant, transformers_generate

    target = bundle.target
    found: dict[str, Callable[[], Generate]] = {
        "transformers": lambda: transformers_generate(target),
        "transformers, prompt lookup 4": lambda: transformers_generate(
            target, prompt_lookup_num_tokens=4
        ),
    }
    if folder is not None:
        found["transformers, assisted 4"] = lambda: transformers_generate(
            target, assistant_model=assistant(folder, target, 4)
        )
    return found


def _gguf_readers(
    bundle: Bundle, name: str, given: Path | None, console: Console
) -> dict[str, Callable[[], Generate]]:
    import torch

    from taskspec.evaluation.bench_engines import llama_cpp_generate, openvino_generate
    from taskspec.evaluation.bench_gguf import at_precision, catalog_gguf

    source = given or catalog_gguf(bundle.manifest.target)
    if source is None:
        console.print(f"{name} is left out: give the target's weights with --gguf FILE")
        return {}
    threads = torch.get_num_threads()
    if name == "openvino":
        return {"openvino, f16": lambda: openvino_generate(at_precision(source, "f16"), threads)}
    return {
        "llama.cpp, bf16": lambda: llama_cpp_generate(at_precision(source, "bf16"), threads),
        f"llama.cpp, {source.stem.rpartition('.')[2]}": lambda: llama_cpp_generate(source, threads),
    }


def _show(found: DecodeBench, console: Console) -> None:
    from rich.table import Column, Table

    tasks = found.methods[0].by_task
    speeds = Table(Column("method", no_wrap=True), "tokens/s", "over plain", *tasks)
    costs = Table("draft", "k", "accepted", "tau", "c", "v(k+1)", "S", "efficiency")
    for each in found.methods:
        ratio, cost = each.ratio, each.cost
        interval = f"{ratio.value:.2f} ({ratio.low:.2f}-{ratio.high:.2f})"
        parts = (f"{each.by_task[task]:.2f}" for task in tasks)
        speeds.add_row(each.name, f"{each.tokens_per_second:.1f}", interval, *parts)
        if cost is not None:
            observed = (each.acceptance_rate or 0.0, each.block_efficiency or 0.0)
            model = (cost.draft_ratio, cost.verify_ratio, cost.predicted, cost.efficiency)
            cells = (f"{figure:.2f}" for figure in observed + model)
            costs.add_row(each.name, str(cost.draft_length), *cells)
    for table in (speeds, costs):
        console.print(table)
    steady = next(each.steady_ratio for each in found.methods if each.name == "routed")
    without = "" if steady is None else f" (routed without them {steady:.2f})"
    console.print(
        f"overhead o {found.overhead:.2f} of a pass of {found.pass_seconds[0] * 1e3:.1f} ms; "
        f"bandwidth {found.bandwidth / 1e9:.1f} GB/s, roofline fraction {found.roofline:.2f}; "
        f"peak memory {found.peak_memory / 2**20:,.0f} MiB; {found.looping:.0%} of the answers "
        f"loop{without}",
        highlight=False,
    )


def _write(found: DecodeBench, path: Path) -> None:
    import json
    from dataclasses import asdict

    from taskspec.pipeline.environment import describe_environment
    from taskspec.registry import default_registry

    environment = describe_environment(default_registry())
    value = {**asdict(found), "roofline": found.roofline, "environment": environment}
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
