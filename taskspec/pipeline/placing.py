"""Which tasks of a finished run new prompts belong to, and which of them belong to none."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from taskspec.corpus.examples import Example
from taskspec.errors import CorpusError
from taskspec.interfaces import Encoder
from taskspec.pipeline.run_folder import RunFolder
from taskspec.recipe.choice import PluginChoice
from taskspec.recipe.plugins import make_plugin_options
from taskspec.registry import Registry
from taskspec.serving.known import load_known

LEAST = 10
"""Training prompts without which there is no new task."""


def place_prompts(
    run: RunFolder, choice: PluginChoice, registry: Registry, examples: Sequence[Example]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The nearest of a run's tasks for each of N prompts, and which are unknown to all.

    Args:
        run: The run.
        choice: Its router's encoder.
        registry: The plugins.
        examples: The prompts.

    Returns:
        int64 labels [N] and bool [N].

    Raises:
        CorpusError: When the run measured no distances.
    """
    known = load_known(run.stages["route"])
    if known is None:
        raise CorpusError(
            f"{run.path} does not say how far from its tasks other prompts lie: it is older than "
            "that, or its encoder's vectors do not tell; remove its route stage and run its recipe "
            "again, or run a recipe of its own over all prompts"
        )
    encoder_class = registry.get("encoder", choice.use)
    assert issubclass(encoder_class, Encoder)
    options = make_plugin_options(registry, "encoder", choice)
    encoder = encoder_class.load(run.stages["route"] / "encoder", options)
    vectors = encoder.encode([each.prompt_text for each in examples])
    return known.nearest(vectors), known.distances(vectors) > 1


def check_enough(run: RunFolder, new: int, unknown: int) -> None:
    """Refuse to make a task of too little.

    Args:
        run: The run.
        new: New training prompts.
        unknown: Those of them that are unknown to all its tasks.

    Raises:
        CorpusError: When these are too few.
    """
    if unknown < LEAST:
        raise CorpusError(
            f"of {new} new training prompts, {unknown} are unknown to the tasks of {run.path}; a "
            f"new task needs at least {LEAST}. Known ones need no new draft: the bundle routes "
            "them already"
        )
