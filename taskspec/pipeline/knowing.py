"""How far from a run's tasks its prompts lie, written down for serving."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from taskspec.corpus.examples import Example
from taskspec.pipeline.partition import Tasks
from taskspec.serving.known import measure_known, save_known


def write_known(
    folder: Path, examples: Sequence[Example], vectors: NDArray[np.float32], tasks: Tasks
) -> None:
    """Write `known.safetensors`, unless distances tell nothing.

    Args:
        folder: Where to.
        examples: N training and validation prompts that have a task.
        vectors: float32 [N, D], of the router's encoder.
        tasks: The prompts' tasks.
    """
    train, held = (
        np.array([each.split == split for each in examples]) for split in ("train", "validation")
    )
    if not held.any():
        return
    labels = np.array([tasks.labels[each.id] for each in examples], dtype=np.int64)
    known = measure_known(vectors[train], labels[train], vectors[held])
    if known is not None:
        save_known(known, folder)
