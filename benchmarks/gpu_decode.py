"""Plain decoding and drafting on one GPU, with and without graphs, beside transformers.

    python benchmarks/random_model.py random-8b --hidden 4096 --layers 32 --intermediate 14336
    python benchmarks/gpu_decode.py random-8b
    python benchmarks/gpu_decode.py smollm2-135m-instruct-q4_1

Weights may be random: speed does not depend on what they say. Drafting runs `--layers` of the
target's own, uncured, so its figure is the cost of a step, not a speed-up. Ways take turns, medians
of repeats. Prints Markdown. `--device cpu` tries the script itself.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from taskspec_drafters.causal_lm import CausalLM, CausalLMOptions
from taskspec_verifiers.greedy import Greedy

from taskspec.decoding.cost import measure_draft, measure_target
from taskspec.decoding.engine import Engine
from taskspec.decoding.fixed_shape import SWITCH
from taskspec.decoding.records import DraftChoice, Request
from taskspec.evaluation.bench_cost import measure_bandwidth, pass_bytes
from taskspec.interfaces import DraftCorpus
from taskspec.models.loading import LanguageModel, load_language_model
from taskspec.models.quiet import quiet_transformers

DRAFT_LENGTH = 4


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


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--layers", type=int, default=2)
    arguments = parser.parse_args()
    target = load_language_model(arguments.model, "bfloat16", arguments.device)
    generator = torch.Generator().manual_seed(0)
    prompt = torch.randint(100, 1000, (128,), generator=generator).tolist()
    request = Request("0", tuple(prompt), arguments.tokens, ignore_eos=True)
    corpus = DraftCorpus([prompt], [prompt])
    ways: dict[str, Callable[[], float]] = {}
    parts: dict[str, tuple[float, float, float]] = {}
    for name, switch in (("graphs", "1"), ("launched one by one", "0")):
        os.environ[SWITCH] = switch
        draft = CausalLM.build(target, corpus, CausalLMOptions(layers=arguments.layers))
        engine = Engine(target, Greedy(), {"draft": draft})
        cost = measure_target(engine.model, prompt, DRAFT_LENGTH + 1)
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
    print(f"{arguments.model}, {read / 1e9:.2f} GB a pass, {bandwidth / 1e9:,.0f} GB/s read\n")
    print("| way | tokens/s | over generate |\n|---|---|---|")
    for name, runs in found.items():
        median = statistics.median(runs)
        print(f"| {name} | {arguments.tokens / median:.1f} | {base / median:.2f} |")
    print(f"\n| pass | ms | roofline fraction | v({DRAFT_LENGTH + 1}) | c |\n|---|---|---|---|---|")
    for name, (pass_seconds, v, c) in parts.items():
        roofline = read / bandwidth / pass_seconds
        print(f"| {name} | {1e3 * pass_seconds:.2f} | {roofline:.2f} | {v:.2f} | {c:.2f} |")


if __name__ == "__main__":
    main()
