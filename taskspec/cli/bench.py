"""`taskspec bench`: measurements that anyone can repeat."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from taskspec.cli.bench_ablation import ablation
from taskspec.cli.bench_corpus import corpus
from taskspec.cli.bench_decode import decode
from taskspec.cli.bench_leave_one_out import leave_one_out

if TYPE_CHECKING:
    from taskspec.evaluation.bench_train import TrainBench

bench = typer.Typer(no_args_is_help=True, help="Measure speed on this machine.")
bench.command()(decode)
bench.command()(corpus)
bench.command()(ablation)
bench.command()(leave_one_out)


@bench.command()
def train(
    model: Annotated[
        str, typer.Argument(help="Target: catalog name, hub id or folder.")
    ] = "smollm2-135m-instruct-q4_1",
    layers: Annotated[int, typer.Option(help="Layers of the draft cut from it.")] = 3,
    vocabulary: Annotated[int, typer.Option(help="Output tokens of the draft; 0: all.")] = 8192,
    aligner: Annotated[str, typer.Option(help="Aligner plugin.")] = "kd",
    corpus: Annotated[
        str, typer.Option(help="Prompts whose lengths count.")
    ] = "package:prompts/quickstart.jsonl",
    batch_tokens: Annotated[int, typer.Option(help="Tokens per batch.", min=16)] = 2048,
    steps: Annotated[int, typer.Option(help="Batches per measurement.", min=8)] = 24,
    repeats: Annotated[int, typer.Option(help="Rounds; every way is measured in each.", min=1)] = 3,
    precision: Annotated[str, typer.Option(help="Lightning's name of a precision.")] = "bf16-mixed",
    dtype: Annotated[str, typer.Option(help="The target's dtype.")] = "bfloat16",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    out: Annotated[Path | None, typer.Option(help="Write the figures there, as JSON.")] = None,
) -> None:
    """Training speed against a plain Hugging Face Trainer loop and the arithmetic alone.

    Same draft, loss, texts and cached teacher, one after the other in every round.

    Examples:

        taskspec bench train

        taskspec bench train --device cuda --layers 30 --vocabulary 0 --batch-tokens 16384
    """
    from rich.console import Console

    from taskspec.corpus.readers import read_examples
    from taskspec.errors import TaskSpecError
    from taskspec.evaluation.bench_texts import bench_answers
    from taskspec.evaluation.bench_train import Subject, bench_train
    from taskspec.files import check_output
    from taskspec.interfaces import Aligner, DraftCorpus, TrainableDrafter
    from taskspec.models.loading import load_language_model
    from taskspec.recipe.alignment import AlignConfig, TrainerConfig
    from taskspec.recipe.choice import PluginChoice
    from taskspec.recipe.corpus_path import resolve_corpus
    from taskspec.recipe.plugins import make_plugin, make_plugin_options
    from taskspec.registry import default_registry

    if out is not None:
        check_output(out)
    try:
        TrainerConfig(precision=precision)
    except ValueError as error:
        raise TaskSpecError(f"--precision: {error}") from None
    console, registry = Console(), default_registry()
    target = load_language_model(model, dtype, device)
    examples = read_examples(resolve_corpus(corpus, None))
    enough = steps * batch_tokens // 50
    answers = bench_answers(target, examples, enough, seed=0)
    choice = PluginChoice("causal-lm", {"layers": layers, "vocabulary": vocabulary})
    drafter_class = registry.get("drafter", choice.use)
    assert issubclass(drafter_class, TrainableDrafter)
    texts = DraftCorpus([a.prompt_ids for a in answers], [a.answer_ids for a in answers])
    options = make_plugin_options(registry, "drafter", choice)

    def make_aligner() -> Aligner:
        made = make_plugin(registry, "aligner", PluginChoice(aligner))
        assert isinstance(made, Aligner)
        return made

    kind = "gpu" if target.device.type == "cuda" else "cpu"
    trainer = TrainerConfig(accelerator=kind, devices="1", precision=precision)
    subject = Subject(
        drafter_class.build(target, texts, options),
        make_aligner,
        answers,
        target,
        AlignConfig(batch_tokens=batch_tokens, trainer=trainer),
        steps,
    )
    with console.status("measuring") as status:
        found = bench_train(subject, repeats, lambda name: status.update(f"measured: {name}"))
    if out is not None:
        _write(found, out)
    _show(found, console)


def _show(found: TrainBench, console: object) -> None:
    from rich.console import Console
    from rich.table import Table

    assert isinstance(console, Console)
    table = Table("training loop", "tokens/s", "ours is", "lowest to highest", "MFU")
    for speed in found.speeds:
        spread = f"{min(speed.ratios):.2f} to {max(speed.ratios):.2f}"
        cells = f"{speed.median:,.0f}", f"{speed.ratio:.2f}x", spread, f"{found.mfu(speed):.1%}"
        table.add_row(speed.name, *cells)
    console.print(table)
    console.print(
        f"{found.parameters:,} parameters train; {found.flops_per_token / 1e6:,.1f} MFLOP per "
        f"token; best matrix product here {found.peak / 1e9:,.0f} GFLOP/s; padding: ours "
        f"{found.padding:.1%}, padded rows {found.peer_padding:.1%}",
        highlight=False,
    )


def _write(found: TrainBench, path: Path) -> None:
    import json
    from dataclasses import asdict

    from taskspec.pipeline.artifacts import write_atomically
    from taskspec.pipeline.environment import describe_environment
    from taskspec.registry import default_registry

    value = {**asdict(found), "environment": describe_environment(default_registry())}
    write_atomically(path, json.dumps(value, indent=2) + "\n")
