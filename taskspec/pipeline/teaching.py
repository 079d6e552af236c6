"""One alignment within a run: from a plugin choice to an exported draft."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from taskspec.corpus.answers import StoredAnswer
from taskspec.interfaces import Aligner, TrainableDrafter
from taskspec.pipeline.context import RunContext
from taskspec.recipe.plugins import make_plugin
from taskspec.recipe.schema import PluginChoice
from taskspec.training.fit import AlignmentReport, fit


def teach(
    context: RunContext,
    folder: Path,
    drafter: TrainableDrafter,
    choice: PluginChoice,
    answers: Sequence[StoredAnswer],
    tokens: int,
    learning_rate: float,
    label: str,
    export: Path | None = None,
) -> AlignmentReport:
    """Align a drafter and export it; leaves only the training log in `folder`.

    Args:
        context: The run.
        folder: Checkpoints while it lasts, and the log.
        drafter: Trained in place.
        choice: The aligner.
        answers: What to learn from.
        tokens: Answer tokens to train on, repeats counted.
        learning_rate: Peak rate.
        label: Shown while training.
        export: Where the aligner writes the result; None leaves it in the drafter.
    """
    aligner = make_plugin(context.registry, "aligner", choice)
    assert isinstance(aligner, Aligner)
    console = context.console
    console.print(f"  {label}: {len(answers)} answers, {tokens:,} tokens", highlight=False)
    report = fit(
        drafter,
        aligner,
        answers,
        context.target,
        context.recipe.align,
        tokens,
        learning_rate,
        context.recipe.seed,
        folder,
        show_progress=console.is_terminal,
    )
    if export is not None:
        export.mkdir(exist_ok=True)
        aligner.export(drafter, export)
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    return report
