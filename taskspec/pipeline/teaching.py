"""One alignment within a run: from a plugin choice to an exported draft."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from taskspec.corpus.answers import StoredAnswer
from taskspec.interfaces import Aligner, TrainableDrafter
from taskspec.pipeline.context import RunContext
from taskspec.recipe.choice import PluginChoice
from taskspec.recipe.plugins import make_plugin
from taskspec.training.earlier import Earlier, save_trained
from taskspec.training.fit import AlignmentReport, fit


@dataclass(frozen=True)
class Course:
    """What a draft is taught.

    Attributes:
        aligner: The aligner.
        answers: What to learn from.
        held_out: Where to draw from what scores it meanwhile.
        tokens: Answer tokens to train on, repeats counted.
        learning_rate: Peak rate.
        label: Shown while training.
        earlier: An earlier training that this one goes on from.
    """

    aligner: PluginChoice
    answers: Sequence[StoredAnswer]
    held_out: Sequence[StoredAnswer]
    tokens: int
    learning_rate: float
    label: str
    earlier: Earlier | None = None


def teach(
    context: RunContext,
    folder: Path,
    drafter: TrainableDrafter,
    course: Course,
    export: Path | None = None,
    weights: Path | None = None,
) -> AlignmentReport:
    """Align a drafter and export it; leaves only the training log in `folder`.

    Args:
        context: The run.
        folder: Checkpoints while it lasts, and the log.
        drafter: Trained in place.
        course: What it learns.
        export: Where the aligner writes the result; None leaves it in the drafter.
        weights: File for what a later training goes on from; None for none.
    """
    aligner = make_plugin(context.registry, "aligner", course.aligner)
    assert isinstance(aligner, Aligner)
    console, config = context.console, context.recipe.align
    console.print(
        f"  {course.label}: {len(course.answers)} answers, {course.tokens:,} tokens",
        highlight=False,
        markup=False,
    )
    report = fit(
        drafter,
        aligner,
        course.answers,
        context.target,
        config,
        course.tokens,
        course.learning_rate,
        context.recipe.seed,
        folder,
        held_out=_spread_out(course.held_out, config.held_out),
        title=f"{context.recipe.name}: {course.label}",
        show_progress=console.is_terminal,
        earlier=course.earlier,
    )
    if context.writes:
        if weights is not None:
            save_trained(drafter, weights)
        if export is not None:
            export.mkdir(exist_ok=True)
            aligner.export(drafter, export)
            if aligner.adapts:
                drafter.save_adapter_extras(export)
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    return report


def _spread_out(answers: Sequence[StoredAnswer], most: int) -> list[StoredAnswer]:
    """At most so many answers, from all over."""
    count = min(most, len(answers))
    return [answers[index * len(answers) // count] for index in range(count)]
