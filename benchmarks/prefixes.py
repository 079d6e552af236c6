"""What reading shared prefixes once brings a bundle's answers.

    python benchmarks/prefixes.py runs/quickstart/bundle

Held-out prompts of a corpus are answered plainly and routed, by an engine that reads every prompt
whole and by one that keeps what prompts of the run begin with; ways take turns, one prompt at a
time, medians of the repeats. Ratios are over plain decoding of whole prompts, 95 % of resamples of
prompts.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from taskspec.cli.held_out import held_out_prompts
from taskspec.decoding.engine import Engine
from taskspec.decoding.records import Request
from taskspec.evaluation.bench_decode import speeds
from taskspec.evaluation.bench_ways import ours, routed_draft, take_turns
from taskspec.evaluation.statistics import speedup_interval
from taskspec.registry import default_registry
from taskspec.serving.bundle import load_bundle

CORPUS, RESAMPLES = "package:prompts/quickstart.jsonl", 10_000
PLAIN = "plain, prompts read whole"


def main() -> None:
    """Answer, take turns, print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--corpus", default=CORPUS)
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--repeats", type=int, default=3)
    asked = parser.parse_args()
    bundle = load_bundle(asked.bundle, default_registry(), prefixes=False)
    prompts = held_out_prompts(
        bundle, asked.bundle, asked.corpus, asked.count, asked.tokens, 0, Console()
    )
    keeping = Engine(
        bundle.target,
        bundle.engine.verifier,
        bundle.pool.drafters,
        prefixes=bundle.manifest.prefixes,
    )
    ways = {
        PLAIN: ours(bundle.engine, asked.tokens, lambda _: None),
        "plain, prefixes kept": ours(keeping, asked.tokens, lambda _: None),
        "routed, prompts read whole": ours(
            bundle.engine, asked.tokens, lambda prompt: routed_draft(bundle, prompt)
        ),
        "routed, prefixes kept": ours(
            keeping, asked.tokens, lambda prompt: routed_draft(bundle, prompt)
        ),
    }
    for answer in ways.values():
        answer(prompts[0])
    keeping.generate([Request(each.id, each.ids, 1) for each in prompts])
    found, _ = take_turns(ways, prompts, asked.repeats, lambda: None)
    kept = [len(keeping.prefixes.longest(each.ids)) for each in prompts]
    whole = sum(len(each.ids) for each in prompts)
    print(f"{len(prompts)} prompts, {whole} tokens, of which {sum(kept)} are shared prefixes\n")
    print("| way | tokens/s | speed-up (95 %) |\n|---|---|---|")
    plain, tasks = speeds(found[PLAIN], asked.tokens), [each.task for each in prompts]
    for name, answers in found.items():
        own = speeds(answers, asked.tokens)
        ratio = speedup_interval(own, plain, tasks, RESAMPLES)
        pace = own.tokens.sum() / own.seconds.sum()
        print(f"| {name} | {pace:.1f} | {ratio.value:.2f}x ({ratio.low:.2f}-{ratio.high:.2f}) |")


if __name__ == "__main__":
    main()
