"""How decoding's cost grows with context, batch and number of tasks.

    pip install matplotlib
    python benchmarks/growth.py runs/quickstart/bundle docs/benchmarks/growth.svg

Time per token after contexts of 128 to 4,096 tokens, and in batches of 1 to 32 rows, decoded
plainly, with the first task's draft at its length, and with the length that pays in a batch of that
size; time per drafted token and memory with 1 to 32 adapters on a cut of three layers. Ways take
turns, medians of three. Prints Markdown as it goes and draws the same figures; a quarter of an
hour on two cores.
"""

from __future__ import annotations

import gc
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
import torch
from peft import LoraConfig, get_peft_model
from rich.console import Console
from taskspec_drafters.causal_lm import CausalLM, CausalLMOptions

from taskspec.cli.held_out import held_out_prompts
from taskspec.decoding.pacing import Pace
from taskspec.decoding.records import DraftChoice, Request
from taskspec.interfaces import DraftCorpus, Sampling
from taskspec.models.loading import LanguageModel
from taskspec.models.quiet import quiet_transformers
from taskspec.registry import default_registry
from taskspec.serving.bundle import Bundle, load_bundle
from taskspec.serving.calibration import measure_pace

CONTEXTS = (128, 256, 512, 1024, 2048, 4096)
BATCHES = (1, 2, 4, 8, 16, 32)
ADAPTERS = (1, 2, 4, 8, 16, 32)
TOKENS, REPEATS, RANK = 48, 3, 16
PACED = "drafted as it pays"
Series = Mapping[str, Mapping[int, float]]


def steady_seconds(
    bundle: Bundle, requests: Sequence[Request], batch: int, pace: Pace | None = None
) -> float:
    """Seconds per token of all rows together, after the first tokens."""
    times: list[float] = []
    done = bundle.engine.generate(
        requests, batch, on_emit=lambda *_: times.append(time.perf_counter()), pace=pace
    )
    after_first = times[len(requests) - 1 :]
    return (after_first[-1] - after_first[0]) / sum(len(each.tokens) - 1 for each in done)


def growth(
    sizes: Sequence[int], ways: Sequence[str], measure: Callable[[int, str], float]
) -> dict[str, dict[int, float]]:
    """Medians of each way at each size, taking turns."""
    found: dict[tuple[str, int], list[float]] = {}
    for repeat in range(REPEATS + 1):
        for size in sizes:
            for way in ways:
                seconds = measure(size, way)
                if repeat:
                    found.setdefault((way, size), []).append(seconds)
    return {way: {n: statistics.median(found[way, n]) for n in sizes} for way in ways}


def adapters_cost(target: LanguageModel, folder: Path) -> tuple[dict[int, float], float]:
    """Seconds per drafted token with so many adapters in use, and bytes of each further one."""
    drafter = CausalLM.load(folder, target, CausalLMOptions())
    prompt = list(range(100, 228))
    seconds: dict[int, float] = {}
    memory: dict[int, int] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for count in range(1, max(ADAPTERS) + 1):
            own = Path(scratch) / str(count)
            save_random_adapter(target, folder, own, count)
            drafter.add_adapter(str(count), own)
            drafter.start(count, prompt, Sampling(), adapter=str(count))
            drafter.propose([count], [4], torch.zeros(1, 4))
            drafter.commit([count], torch.tensor([[100]]), torch.tensor([1]))
            gc.collect()
            memory[count] = psutil.Process().memory_info().rss
            if count in ADAPTERS:
                seconds[count] = drafted_seconds(drafter, count)
    first, last = min(ADAPTERS), max(ADAPTERS)
    return seconds, (memory[last] - memory[first]) / (last - first)


def drafted_seconds(drafter: CausalLM, count: int) -> float:
    """Seconds per token, rows with each adapter taking turns."""
    times = []
    for repeat in range(4 * max(ADAPTERS)):
        row = 1 + repeat % count
        started = time.perf_counter()
        drafter.propose([row], [4], torch.zeros(1, 4))
        times.append((time.perf_counter() - started) / 4)
        drafter.commit([row], torch.tensor([[100]]), torch.tensor([1]))
    return statistics.median(times)


def save_random_adapter(target: LanguageModel, folder: Path, to: Path, seed: int) -> None:
    """An adapter as `lora-kd` writes one, with random weights."""
    torch.manual_seed(seed)
    base: Any = CausalLM.load(folder, target, CausalLMOptions()).module
    config = LoraConfig(r=RANK, target_modules="all-linear", init_lora_weights=False)
    with quiet_transformers():
        get_peft_model(base, config).save_pretrained(str(to))


def table(name: str, series: Series) -> str:
    """The figures in milliseconds, as Markdown."""
    sizes = list(next(iter(series.values())))
    lines = [f"| {name} | {' | '.join(map(str, sizes))} |", "|---|" + "---|" * len(sizes)]
    for way, values in series.items():
        lines.append(f"| {way}, ms | {' | '.join(f'{1000 * values[n]:.2f}' for n in sizes)} |")
    return "\n".join(lines) + "\n"


def draw(panels: Mapping[str, Series], path: Path) -> None:
    """One panel for each growth, milliseconds per token."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "growth"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(panels), figsize=(4 * len(panels), 3))
    for axis, (name, series) in zip(axes, panels.items(), strict=True):
        for way, values in series.items():
            axis.plot(list(values), [1000 * v for v in values.values()], marker="o", label=way)
        axis.set_xscale("log", base=2)
        axis.set(xlabel=name, ylabel="ms per token", ylim=(0, None), xticks=list(values))
        axis.set_xticklabels([f"{n:,}" for n in values])
        axis.grid(alpha=0.3)
        axis.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    """Measure, print, draw."""
    folder = Path(sys.argv[1])
    bundle = load_bundle(folder, default_registry())
    corpus, console = "package:prompts/quickstart.jsonl", Console(stderr=True)
    prompts = held_out_prompts(bundle, folder, corpus, 50, TOKENS, 0, console)
    text = [token for prompt in prompts for token in prompt.ids]
    drafting = [each for each in bundle.manifest.tasks if each.draft and each.draft_length]
    if not drafting:
        raise SystemExit(f"{folder} decodes every task plainly")
    assigned = drafting[0]
    ways: dict[str, DraftChoice | None] = {
        "plain": None,
        "drafted": bundle.pool.choice(assigned.draft, assigned.draft_length),
    }

    def request(name: str, prompt: Sequence[int], way: str) -> Request:
        return Request(name, tuple(prompt), TOKENS, ignore_eos=True, draft=ways[way])

    def after(context: int, way: str) -> float:
        asked = request("0", (text * (1 + context // len(text)))[:context], way)
        return steady_seconds(bundle, [asked], 1)

    paces = {
        rows: measure_pace(bundle, request("0", prompts[0].ids, "plain"), rows) for rows in BATCHES
    }

    def batched(rows: int, way: str) -> float:
        own = "drafted" if way == PACED else way
        asked = [request(str(n), prompts[n].ids, own) for n in range(rows)]
        return steady_seconds(bundle, asked, rows, paces[rows] if way == PACED else None)

    panels: dict[str, Series] = {}

    def keep(name: str, series: Series) -> None:
        panels[name] = series
        print(table(name, series), flush=True)

    keep("tokens of context", growth(CONTEXTS, list(ways), after))
    keep("rows of a batch", growth(BATCHES, [*ways, PACED], batched))
    with tempfile.TemporaryDirectory() as scratch:
        cut = CausalLM.build(
            bundle.target,
            DraftCorpus([prompt.ids for prompt in prompts], []),
            CausalLMOptions(layers=3, vocabulary=8192),
        )
        cut.save(Path(scratch))
        seconds, memory = adapters_cost(bundle.target, Path(scratch))
    keep("adapters in use", {"drafted token": seconds})
    print(f"Memory of each further adapter, merged and packed: {memory / 2**20:.1f} MiB")
    draw(panels, Path(sys.argv[2]))


if __name__ == "__main__":
    main()
