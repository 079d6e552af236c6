"""Plain decoding and drafting on one GPU, with and without what makes it fast, beside transformers.

    python benchmarks/gpu_decode.py 135m 1b 8b
    python benchmarks/gpu_decode.py smollm2-135m-instruct-q4_1

The first have random weights of `random_model.py`'s shapes: speed does not depend on what they say.
Drafting runs `--layers` of the target's own, uncured, so its figure is the cost of a step, not a
speed-up. Ways take turns, medians of repeats. Prints Markdown. `--device cpu` tries the script.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from random_model import SHAPES, random_model
from taskspec_drafters.causal_lm import CausalLM, CausalLMOptions
from taskspec_verifiers.greedy import Greedy

from taskspec.decoding.cost import measure_draft, measure_target
from taskspec.decoding.engine import Engine
from taskspec.decoding.fixed_shape import SWITCH
from taskspec.decoding.native.library import SWITCH as FUSED
from taskspec.decoding.records import DraftChoice, Request
from taskspec.evaluation.bench_cost import measure_bandwidth, pass_bytes
from taskspec.interfaces import DraftCorpus
from taskspec.models.loading import LanguageModel, load_language_model
from taskspec.models.quiet import quiet_transformers

DRAFT_LENGTH = 4
WAYS = (
    ("fused operators, graphs", "1", "1"),
    ("transformers' operators, graphs", "1", "0"),
    ("transformers' operators, launched one by one", "0", "0"),
)
"""Name, and whether graphs and fused operators are on."""


def generating(target: LanguageModel, request: Request) -> Callable[[], float]:
    """Seconds of transformers' `generate`."""
    model: Any = target.model
    ids = torch.tensor([request.prompt], device=target.device)

    def run() -> float:
        with quiet_transformers():
            started = now(target)
            model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=request.max_new_tokens,
                do_sample=False,
                eos_token_id=None,
                pad_token_id=0,
            )
        return now(target) - started

    return run


def decoding(target: LanguageModel, engine: Engine, request: Request) -> Callable[[], float]:
    """Seconds of our engine."""

    def run() -> float:
        started = now(target)
        engine.generate([request])
        return now(target) - started

    return run


def now(target: LanguageModel) -> float:
    """The time when all work is done."""
    if target.device.type == "cuda":
        torch.cuda.synchronize(target.device)
    return time.perf_counter()


def load(name: str, device: str) -> LanguageModel:
    """A model by name, or of a shape."""
    if name not in SHAPES:
        return load_language_model(name, "bfloat16", device)
    model = random_model(name, device).requires_grad_(False)
    return LanguageModel(model, None, name, name, frozenset(), model.lm_head)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--layers", type=int, default=2)
    arguments = parser.parse_args()
    for name in arguments.models:
        report(load(name, arguments.device), arguments)


def report(target: LanguageModel, arguments: argparse.Namespace) -> None:
    """Measure one model and print its tables."""
    generator = torch.Generator().manual_seed(0)
    prompt = torch.randint(100, 1000, (128,), generator=generator).tolist()
    request = Request("0", tuple(prompt), arguments.tokens, ignore_eos=True)
    corpus = DraftCorpus([prompt], [prompt])
    ways: dict[str, Callable[[], float]] = {}
    parts: dict[str, tuple[float, float, float]] = {}
    for name, graphs, fused in WAYS:
        os.environ[SWITCH], os.environ[FUSED] = graphs, fused
        draft = CausalLM.build(target, corpus, CausalLMOptions(layers=arguments.layers))
        engine = Engine(target, Greedy(), {"draft": draft})
        cost = measure_target(engine.model, prompt, DRAFT_LENGTH + 1, target.context_length)
        choice = DraftChoice("draft", DRAFT_LENGTH)
        c = measure_draft(draft, choice, target, prompt) / cost.seconds[0]
        parts[name] = (cost.seconds[0], cost.verify_ratio(DRAFT_LENGTH + 1), c)
        ways[f"plain, {name}"] = decoding(target, engine, request)
    ways["transformers generate"] = generating(target, request)
    found: dict[str, list[float]] = {name: [] for name in ways}
    for repeat in range(arguments.repeats + 1):
        for name, run in ways.items():
            seconds = run()
            if repeat:
                found[name].append(seconds)
    bandwidth = measure_bandwidth(target.device)
    read = pass_bytes(target, len(prompt))
    base = statistics.median(found["transformers generate"])
    print(f"{target.source}, {read / 1e9:.2f} GB a pass, {bandwidth / 1e9:,.0f} GB/s read\n")
    print("| way | tokens/s | over generate |\n|---|---|---|")
    for name, runs in found.items():
        median = statistics.median(runs)
        print(f"| {name} | {arguments.tokens / median:.1f} | {base / median:.2f} |")
    print(f"\n| pass | ms | roofline fraction | v({DRAFT_LENGTH + 1}) | c |\n|---|---|---|---|---|")
    for name, (pass_seconds, v, c) in parts.items():
        roofline = read / bandwidth / pass_seconds
        print(f"| {name} | {1e3 * pass_seconds:.2f} | {roofline:.2f} | {v:.2f} | {c:.2f} |")
    print(flush=True)


if __name__ == "__main__":
    main()
