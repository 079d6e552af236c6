"""Stage 3: vectors become tasks."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taskspec.corpus.examples import ALL_TASKS, Example
from taskspec.corpus.key_terms import key_terms
from taskspec.errors import CorpusError, PluginError
from taskspec.interfaces import PartitionContext, Partitioner
from taskspec.pipeline.artifacts import read_json, write_json
from taskspec.pipeline.context import RunContext
from taskspec.pipeline.encode import known_examples, load_vectors, partition_texts
from taskspec.pipeline.stage import Stage
from taskspec.recipe.plugins import make_plugin

TASKS = "tasks.json"


@dataclass(frozen=True)
class Tasks:
    """The tasks found.

    Attributes:
        names: One name per task, made of its key terms; the index is the task's label.
        labels: Label of every training and validation prompt, by id; -1 is dropped noise.
    """

    names: tuple[str, ...]
    labels: Mapping[str, int]


class Partition(Stage):
    """Groups the prompts into tasks; owns what becomes of noise and names the tasks."""

    name = "partition"
    needs = ("collect", "encode")

    def settings(self, context: RunContext) -> Any:
        """The partitioner, the noise policy and the seed."""
        choice = context.recipe.partition
        return {
            "partitioner": context.plugin_identity("partitioner", choice),
            "noise": choice.noise,
            "seed": context.recipe.seed,
            **({"shuffled": True} if choice.shuffled else {}),
        }

    def run(self, context: RunContext, folder: Path) -> str:
        """Write `tasks.json` and `partitioner/`."""
        examples = known_examples(context)
        texts = partition_texts(context, examples)
        vectors = load_vectors(context.stage_folders["encode"])
        train = np.array([example.split == "train" for example in examples])
        partitioner = make_plugin(context.registry, "partitioner", context.recipe.partition)
        assert isinstance(partitioner, Partitioner)
        labels = np.empty(len(examples), dtype=np.int64)
        labels[train] = partitioner.fit(
            vectors[train],
            [text for text, keep in zip(texts, train, strict=True) if keep],
            PartitionContext(context.recipe.seed, context.target),
        )
        if not train.all():
            labels[~train] = partitioner.predict(
                vectors[~train], [text for text, keep in zip(texts, train, strict=True) if not keep]
            )
        noise = int((labels < 0).sum())
        labels = resolve_noise(labels, vectors, train, context.recipe.partition.noise)
        if context.recipe.partition.shuffled:
            labels = shuffle_labels(labels, train, context.recipe.seed)
        names = list(partitioner.task_names)
        _check_labels(labels, train, len(names), partitioner.name)
        names = distinct_names(
            names or key_terms([example.prompt_text for example in examples], labels)
        )
        (folder / "partitioner").mkdir(exist_ok=True)
        partitioner.save(folder / "partitioner")
        found = {e.id: int(label) for e, label in zip(examples, labels, strict=True)}
        write_json(folder / TASKS, {"names": list(names), "labels": found})
        sizes = [f"{name} ({int((labels[train] == i).sum())})" for i, name in enumerate(names)]
        return f"{len(names)} tasks: {', '.join(sizes)}; {noise} prompts were noise"


def _check_labels(
    labels: NDArray[np.int64], train: NDArray[np.bool_], named: int, partitioner: str
) -> None:
    """Refuse tasks that nothing could be learnt from, or by which nothing could be chosen.

    Raises:
        PluginError: Naming the label.
        CorpusError: When no validation prompt has a task.
    """
    count = max(int(labels.max()) + 1, named)
    missing = np.setdiff1d(np.arange(count), labels[train])
    if len(missing):
        raise PluginError(
            f"partitioner '{partitioner}' put no training prompt into task {missing[0]} of "
            f"{count}; it must number its tasks 0, 1, 2, ... without gaps, and name as many as "
            "there are"
        )
    if not (labels[~train] >= 0).any():
        raise CorpusError(
            f"none of {int((~train).sum())} validation prompts belongs to a task, and drafts are "
            "chosen by them; set partition.noise to nearest, or give more prompts"
        )


def distinct_names(names: Sequence[str]) -> list[str]:
    """Names without spaces, no two alike, and none that tables use for something else."""
    found: list[str] = []
    for name in names:
        plain = name.replace(" ", "-")
        others = (plain if n == 1 else f"{plain}-{n}" for n in itertools.count(1))
        found.append(next(each for each in others if each not in (*_TAKEN, *found)))
    return found


_TAKEN = (ALL_TASKS, "fallback")


def resolve_noise(
    labels: NDArray[np.int64],
    vectors: NDArray[np.float32],
    train: NDArray[np.bool_],
    policy: str,
) -> NDArray[np.int64]:
    """Apply the recipe's noise policy.

    Args:
        labels: int64 [N], -1 for noise.
        vectors: float32 [N, D].
        train: bool [N]; only training prompts lend their label to noise.
        policy: `nearest` or `drop`.

    Returns:
        int64 [N]; with `nearest` no -1 is left.

    Raises:
        CorpusError: When every training prompt is noise.
    """
    known = (labels >= 0) & train
    if not known.any():
        raise CorpusError(
            "the partitioner labelled every prompt as noise; give it more prompts or other options "
            "(see partition in the recipe)"
        )
    if policy == "drop" or (labels >= 0).all():
        return labels
    resolved = labels.copy()
    lost = np.flatnonzero(labels < 0)
    similarity = vectors[lost] @ vectors[known].T
    resolved[lost] = labels[known][similarity.argmax(axis=1)]
    return resolved


def shuffle_labels(
    labels: NDArray[np.int64], train: NDArray[np.bool_], seed: int
) -> NDArray[np.int64]:
    """Deal the labels of each split out to its prompts at random.

    Args:
        labels: int64 [N].
        train: bool [N]; training and validation prompts keep to their own labels, so that every
            task has as many of both as before.
        seed: Draws who gets which.

    Returns:
        int64 [N].
    """
    generator = np.random.default_rng(seed)
    dealt = labels.copy()
    for part in (train, ~train):
        dealt[part] = generator.permutation(labels[part])
    return dealt


def load_tasks(folder: Path) -> Tasks:
    """The tasks, from the stage's folder."""
    value = read_json(folder / TASKS)
    return Tasks(tuple(value["names"]), value["labels"])


def validation_by_task(context: RunContext, tasks: Tasks) -> dict[int, list[Example]]:
    """Validation prompts of every task, by label; a small task may have none."""
    held = [each for each in known_examples(context) if each.split == "validation"]
    return {
        label: [each for each in held if tasks.labels[each.id] == label]
        for label in range(len(tasks.names))
    }
