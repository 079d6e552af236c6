"""How far from a run's tasks its prompts lie, written down for serving."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from taskspec.corpus.examples import Example
from taskspec.interfaces import Encoder
from taskspec.pipeline.partition import Tasks
from taskspec.serving.known import measure_known, save_known


def write_known(folder: Path, encoder: Encoder, examples: Sequence[Example], tasks: Tasks) -> None:
    """Write `known.safetensors`, unless distances tell nothing.

    Args:
        folder: Where to.
        encoder: Fitted; the router's.
        examples: Training and validation prompts that have a task.
        tasks: Theirs.
    """
    train, held = (
        [each for each in examples if each.split == split] for split in ("train", "validation")
    )
    if not held:
        return
    labels = np.array([tasks.labels[each.id] for each in train], dtype=np.int64)
    vectors, near = (encoder.encode([each.prompt_text for each in part]) for part in (train, held))
    known = measure_known(vectors, labels, near)
    if known is not None:
        save_known(known, folder)
