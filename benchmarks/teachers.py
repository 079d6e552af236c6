"""A cached teacher against one that is asked again on every batch.

    taskspec run quickstart
    python benchmarks/teachers.py runs/quickstart --tokens 10000

The recovered draft of a finished run learns from the same answers, in the same order, with the
target's signal kept as states, kept as its likeliest tokens, or not kept. Acceptance is theoretical
alpha on validation answers, against the target's whole distribution. Prints Markdown.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from taskspec.corpus.answers import StoredAnswer
from taskspec.interfaces import Aligner, TrainableDrafter
from taskspec.models.loading import LanguageModel
from taskspec.pipeline.draft import draft_folder, drafter_class, split_answers
from taskspec.pipeline.subject import open_run
from taskspec.recipe.choice import PluginChoice
from taskspec.recipe.plugins import make_plugin, make_plugin_options
from taskspec.registry import default_registry
from taskspec.training.batches import make_batch
from taskspec.training.fit import fit
from taskspec.training.held_out import HeldOutScore, score_batch
from taskspec.training.teacher import top_tokens


def stored_as(
    answers: Sequence[StoredAnswer], signal: str, target: LanguageModel
) -> tuple[list[StoredAnswer], float]:
    """Answers with their signal kept so, and its bytes per answer token."""
    if signal == "states":
        width = target.hidden_size
        return list(answers), answers[0].hidden.element_size() * width + 4  # type: ignore[union-attr]
    bare = [replace(answer, hidden=None, log_normalizer=None) for answer in answers]
    if signal == "none":
        return bare, 0
    k = int(signal.removeprefix("top-"))
    kept = []
    for answer, without in zip(answers, bare, strict=True):
        assert answer.hidden is not None and answer.log_normalizer is not None
        top = top_tokens(answer.hidden, answer.log_normalizer, target.head, k)
        kept.append(replace(without, top=top))
    return kept, 8 * k + 4


def held_out_alpha(
    drafter: TrainableDrafter, answers: Sequence[StoredAnswer], target: LanguageModel
) -> float:
    """Mean acceptance over all positions of answers kept with their states."""
    total = HeldOutScore()
    for answer in answers:
        made = make_batch([answer], target.head)
        assert made.teacher is not None
        total += score_batch(drafter, made.batch, made.teacher, target.vocabulary_size, 0)
    return float(total.metrics()["val_alpha"])


def main() -> None:
    """Train once per signal and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--tokens", type=int, default=10_000)
    parser.add_argument("--draft", default="small")
    arguments = parser.parse_args()
    context = open_run(arguments.run, default_registry(), Console())
    train, held = (split_answers(context, split) for split in ("train", "validation"))
    choice = context.recipe.draft.pool[arguments.draft]
    options = make_plugin_options(context.registry, "drafter", choice)
    print("| signal | bytes per token | seconds | held-out alpha |\n|---|---|---|---|")
    for signal in ("states", "top-64", "top-8", "none"):
        drafter = drafter_class(context, arguments.draft).load(
            draft_folder(context, arguments.draft), context.target, options
        )
        assert isinstance(drafter, TrainableDrafter)
        aligner = make_plugin(context.registry, "aligner", PluginChoice("kd"))
        assert isinstance(aligner, Aligner)
        answers, size = stored_as(train, signal, context.target)
        with tempfile.TemporaryDirectory() as place:
            report = fit(
                drafter,
                aligner,
                answers,
                context.target,
                replace(context.recipe.align, held_out=0),
                arguments.tokens,
                context.recipe.align.learning_rate,
                context.recipe.seed,
                Path(place) / "training",
            )
        alpha = held_out_alpha(drafter, held, context.target)
        print(f"| {signal} | {size:,} | {report.seconds:.0f} | {alpha:.3f} |", flush=True)


if __name__ == "__main__":
    main()
