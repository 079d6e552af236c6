"""Which prompts train, which choose, which are held out."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import replace

from taskspec.corpus.examples import Example
from taskspec.errors import CorpusError
from taskspec.recipe.schema import CorpusConfig

_LEAST_TRAIN = 2


def split_examples(examples: Sequence[Example], config: CorpusConfig, seed: int) -> list[Example]:
    """Give every prompt a split.

    Marked prompts keep theirs. The others are drawn by a hash of seed and id, so that adding
    prompts moves none of the old ones.

    Raises:
        CorpusError: When a split would be too small to work with.
    """
    marked = [
        example
        if example.split is not None
        else replace(example, split=_draw(example.id, config, seed))
        for example in examples
    ]
    counts = {
        name: sum(e.split == name for e in marked) for name in ("train", "validation", "test")
    }
    if counts["train"] < _LEAST_TRAIN or not counts["validation"] or not counts["test"]:
        raise CorpusError(
            f"too few prompts: {counts['train']} for training, {counts['validation']} for "
            f"validation, {counts['test']} held out; at least {_LEAST_TRAIN}, 1 and 1 are needed, "
            "and a hundred or more per task are useful. Add prompts, or mark rows with `split`"
        )
    if config.limit is None or counts["train"] <= config.limit:
        return marked
    train = [example.id for example in marked if example.split == "train"]
    kept = set(random.Random(seed).sample(train, config.limit))
    return [example for example in marked if example.split != "train" or example.id in kept]


def _draw(name: str, config: CorpusConfig, seed: int) -> str:
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    place = int.from_bytes(digest[:8], "big") / 2**64
    if place < config.test_share:
        return "test"
    if place < config.test_share + config.validation_share:
        return "validation"
    return "train"
