"""Which prompts train, which choose, which are held out."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from taskspec.corpus.examples import SPLITS, Example
from taskspec.errors import CorpusError
from taskspec.recipe.schema import CorpusConfig

_LEAST = {"train": 2, "validation": 1, "test": 1}


def split_examples(examples: Sequence[Example], config: CorpusConfig, seed: int) -> list[Example]:
    """Give every prompt a split.

    Marked prompts keep theirs, and others that say the same follow them. The rest is drawn by a
    hash of seed and text, so that adding prompts moves none of the old ones.

    No text is in two splits: where copies are marked for several, those of the most held-out one
    stay. A draft that has learnt a held-out prompt would show what it remembers.

    Args:
        examples: Prompts with distinct ids.
        config: Shares of the splits, and how many training prompts to keep.
        seed: Draws the splits, and the training prompts when there are more than the limit.

    Returns:
        The prompts in their order; copies of held-out ones, and training prompts beyond the limit,
        left out.

    Raises:
        CorpusError: When a split would be too small to work with.
    """
    split = with_splits(examples, config, seed)
    counts = Counter(example.split for example in split)
    if any(counts[name] < least for name, least in _LEAST.items()):
        raise CorpusError(_too_few(config, counts))
    if config.limit is None or counts["train"] <= config.limit:
        return split
    train = [example.id for example in split if example.split == "train"]
    kept = set(sorted(train, key=lambda name: _place("limit", name, seed))[: config.limit])
    return [example for example in split if example.split != "train" or example.id in kept]


def with_splits(examples: Sequence[Example], config: CorpusConfig, seed: int) -> list[Example]:
    """The same, whatever their numbers are."""
    marked = _marked(examples)
    placed = [
        (each, marked.get(key) or _draw(key, config, seed))
        for each, key in zip(examples, [each.key for each in examples], strict=True)
    ]
    return [replace(e, split=split) for e, split in placed if e.split in (None, split)]


def _marked(examples: Sequence[Example]) -> dict[str, str]:
    """The most held-out split that each marked text is marked for, by its key."""
    marked: dict[str, str] = {}
    for each in examples:
        if each.split:
            key = each.key
            marked[key] = max(each.split, marked.get(key, each.split), key=SPLITS.index)
    return marked


def copies_left_out(examples: Sequence[Example]) -> str:
    """What to say of prompts left out as more held-out ones say the same; empty of none."""
    marked = _marked(examples)
    count = sum(bool(each.split) and each.split != marked[each.key] for each in examples)
    return f"{count} left out, as prompts of a more held-out split say the same" if count else ""


def known_prompts(examples: Sequence[Example], left_out: Sequence[str]) -> list[Example]:
    """The training and validation prompts of all tasks but those left out, in their order."""
    return [each for each in examples if each.split != "test" and each.task not in left_out]


def check_left_out(examples: Sequence[Example], left_out: Sequence[str]) -> None:
    """Refuse to leave out tasks that no prompt has, or so many that too few prompts stay.

    Args:
        examples: Prompts with splits.
        left_out: Tasks to leave out, as `corpus.leave_out` names them.

    Raises:
        CorpusError: Naming the tasks there are.
    """
    if not left_out:
        return
    tasks = {each.task for each in examples} - {None}
    named = ", ".join(sorted(map(str, tasks))) or "none; prompts have no `task`"
    unknown = [task for task in left_out if task not in tasks]
    if unknown:
        raise CorpusError(
            f"corpus.leave_out: no prompt has the task '{unknown[0]}'; tasks are: {named}"
        )
    counts = Counter(example.split for example in known_prompts(examples, left_out))
    if counts["train"] < 2 or not counts["validation"]:
        raise CorpusError(
            f"corpus.leave_out leaves {counts['train']} training and {counts['validation']} "
            f"validation prompts, too few to work with; tasks are: {named}"
        )


def _draw(name: str, config: CorpusConfig, seed: int) -> str:
    place = _place("split", name, seed)
    if place < config.test_share:
        return "test"
    if place < config.test_share + config.validation_share:
        return "validation"
    return "train"


def _place(purpose: str, name: str, seed: int) -> float:
    """Where a prompt falls in [0, 1): uniform, the same on every machine."""
    digest = hashlib.sha256(f"{purpose}:{seed}:{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def _too_few(config: CorpusConfig, counts: Counter[str | None]) -> str:
    found = ", ".join(f"{counts[name]} {name}" for name in SPLITS)
    needed = ", ".join(f"{least} {name}" for name, least in _LEAST.items())
    return (
        f"{config.path}: too few prompts: {found}; needed are at least {needed}, and useful are a "
        "hundred or more per task. Add prompts, or say where each goes with `split` in its row"
    )
