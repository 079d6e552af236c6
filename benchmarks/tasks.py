"""How well partitioners find known tasks, and routers tell them apart.

    python benchmarks/tasks.py PROMPTS.jsonl --target smollm2-135m-instruct-q4_1

For every subset of 2, 3 and 4 of the labelled tasks: each partitioner on each encoder groups the
training prompts, and each router learns them and is scored on the held-out ones. Prints Markdown:
mean over subsets, and the worst subset. Plugins come from the registry, so yours can be named too.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from taskspec.corpus.examples import Example
from taskspec.corpus.readers import read_examples
from taskspec.evaluation.clustering import score_clustering
from taskspec.interfaces import Encoder, PartitionContext, Partitioner, Router
from taskspec.models.loading import load_language_model
from taskspec.recipe.choice import PluginChoice
from taskspec.recipe.plugins import make_plugin
from taskspec.registry import default_registry
from taskspec.serving.routing import router_inputs

SIZES = (2, 3, 4)
SEED = 0
LATENCY_PROMPTS = 100


@dataclass(frozen=True)
class Subset:
    """Prompts of some tasks.

    Attributes:
        tasks: The tasks.
        train: Prompts to find tasks in, and to learn from.
        test: Prompts held out.
    """

    tasks: tuple[str, ...]
    train: list[Example]
    test: list[Example]


def subsets(examples: Sequence[Example]) -> Iterator[Subset]:
    """All subsets of the known tasks."""
    names = sorted({example.task for example in examples if example.task is not None})
    for size in SIZES:
        for tasks in combinations(names, size):
            own = [example for example in examples if example.task in tasks]
            yield Subset(
                tasks,
                [example for example in own if example.split != "test"],
                [example for example in own if example.split == "test"],
            )


def make(kind: str, name: str, **options: Any) -> Any:
    """A plugin with options."""
    return make_plugin(default_registry(), kind, PluginChoice(use=name, options=options))


def partition(
    cases: Sequence[Subset], encoders: Sequence[str], target: str, sample: int
) -> list[tuple[str, ...]]:
    """Rows of accuracy (mean, worst) and number of tasks found, by partitioner and encoder."""
    context = PartitionContext(SEED, load_language_model(target))
    rows = []
    for encoder_name in encoders:
        vectors = []
        for case in cases:
            encoder = make("encoder", encoder_name)
            assert isinstance(encoder, Encoder)
            texts = [example.prompt_text for example in case.train]
            encoder.fit(texts)
            vectors.append(encoder.encode(texts))
        for label, name, given in (
            ("kmeans, number given", "kmeans", "clusters"),
            ("kmeans, number found", "kmeans", ""),
            ("hdbscan, number found", "hdbscan", ""),
            (f"llm-label ({target}), names given", "llm-label", "labels"),
            (f"llm-label ({target}), names found", "llm-label", ""),
        ):
            found: dict[int, list[tuple[float, int]]] = {size: [] for size in SIZES}
            for case, encoded in zip(cases, vectors, strict=True):
                options: dict[str, Any] = {"sample": sample} if name == "llm-label" else {}
                if given == "clusters":
                    options["clusters"] = len(case.tasks)
                if given == "labels":
                    options["labels"] = [task.replace("-", " ") for task in case.tasks]
                partitioner = make("partitioner", name, **options)
                assert isinstance(partitioner, Partitioner)
                texts = [example.prompt_text for example in case.train]
                labels = partitioner.fit(encoded, texts, context)
                known = [str(example.task) for example in case.train]
                score = score_clustering(labels.tolist(), known)
                found[len(case.tasks)].append((score.accuracy, score.clusters))
            cells = [
                f"{statistics.mean(a for a, _ in scores):.1%} / {min(a for a, _ in scores):.1%}"
                f" ({statistics.mean(c for _, c in scores):.1f})"
                for scores in found.values()
            ]
            rows.append((label, encoder_name, *cells))
            print("|", " | ".join(rows[-1]), "|", flush=True)
    return rows


def route(
    cases: Sequence[Subset], routers: Sequence[str], encoders: Sequence[str]
) -> list[tuple[str, ...]]:
    """Rows of accuracy (mean, worst) and latency, by router and encoder."""
    rows = []
    for name in routers:
        reads_text = make("router", name).reads_text
        for encoder_name in ("",) if reads_text else encoders:
            right: dict[int, list[float]] = {size: [] for size in SIZES}
            seconds: list[float] = []
            for case in cases:
                encoder = make("encoder", encoder_name or encoders[0])
                router = make("router", name)
                assert isinstance(router, Router)
                texts = [example.prompt_text for example in case.train]
                if not reads_text:
                    encoder.fit(texts)
                known = np.array([case.tasks.index(str(e.task)) for e in case.train])
                router.fit(router_inputs(router, encoder, texts), known, SEED)
                held = [example.prompt_text for example in case.test]
                guessed = router.predict_proba(router_inputs(router, encoder, held)).argmax(axis=1)
                truth = np.array([case.tasks.index(str(e.task)) for e in case.test])
                right[len(case.tasks)].append(float((guessed == truth).mean()))
                if len(case.tasks) == max(SIZES) and len(seconds) < LATENCY_PROMPTS:
                    for text in held[:LATENCY_PROMPTS]:
                        started = time.perf_counter()
                        router.predict_proba(router_inputs(router, encoder, [text]))
                        seconds.append(time.perf_counter() - started)
            cells = [f"{statistics.mean(s):.2%} / {min(s):.2%}" for s in right.values()]
            latency = f"{1e3 * statistics.median(seconds):.2f} ms"
            rows.append((name, encoder_name or "-", *cells, latency))
            print("|", " | ".join(rows[-1]), "|", flush=True)
    return rows


def main() -> None:
    """Read the prompts and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("prompts", type=Path)
    parser.add_argument("--target", default="smollm2-135m-instruct-q4_1")
    parser.add_argument("--encoders", nargs="+", default=["tfidf", "sentence"])
    parser.add_argument("--routers", nargs="*", default=["logistic", "mlp", "knn", "mamba"])
    parser.add_argument("--limit", type=int, default=100, help="prompts per task for partitioning")
    parser.add_argument("--sample", type=int, default=40, help="prompts that llm-label asks about")
    parser.add_argument("--only", choices=["partition", "route"])
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    examples = read_examples(arguments.prompts)
    if arguments.only != "route":
        counted: dict[tuple[str | None, bool], int] = {}
        few = []
        for example in examples:
            key = (example.task, example.split == "test")
            counted[key] = counted.get(key, 0) + 1
            if counted[key] <= arguments.limit:
                few.append(example)
        sizes = " | ".join(f"{size} tasks" for size in SIZES)
        print(f"\n| partitioner | encoder | {sizes} |\n|---|---|{'---|' * len(SIZES)}")
        partition(list(subsets(few)), arguments.encoders, arguments.target, arguments.sample)
    if arguments.only != "partition":
        sizes = " | ".join(f"{size} tasks" for size in SIZES)
        print(f"\n| router | encoder | {sizes} | p50 |\n|---|---|{'---|' * (len(SIZES) + 1)}")
        route(list(subsets(examples)), arguments.routers, arguments.encoders)


if __name__ == "__main__":
    main()
