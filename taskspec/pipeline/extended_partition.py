"""The partition of a run that extends another: its tasks, and those of unknown prompts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taskspec.corpus.examples import Example
from taskspec.corpus.key_terms import key_terms
from taskspec.interfaces import PartitionContext, Partitioner
from taskspec.pipeline.artifacts import write_json
from taskspec.pipeline.context import RunContext
from taskspec.pipeline.encode import known_examples, load_vectors, partition_texts
from taskspec.pipeline.kept import kept_results, kept_run
from taskspec.pipeline.partition import TASKS, Partition, Tasks, load_tasks, resolve_noise
from taskspec.pipeline.placing import LEAST, check_enough, place_prompts
from taskspec.recipe.plugins import make_plugin

_NOISE = -1


class ExtendedPartition(Partition):
    """Old prompts keep their tasks; new ones join the nearest task, or are unknown to all.

    Unknown prompts alone are partitioned, by the recipe's partitioner. Found groups too small to
    learn from count as noise among the new tasks.
    """

    def settings(self, context: RunContext) -> Any:
        """Those of the stage, the tasks there are, and what tells unknown prompts."""
        kept = kept_results(context, "partition", "route")
        return {**super().settings(context), "extends": kept}

    def run(self, context: RunContext, folder: Path) -> str:
        """Write `tasks.json` and `partitioner/`."""
        run = kept_run(context)
        before = load_tasks(run.stages["partition"])
        examples = known_examples(context)
        labels = np.array([before.labels.get(each.id, _NOISE) for each in examples])
        new = np.array([each.id not in before.labels for each in examples])
        train = np.array([each.split == "train" for each in examples])
        unknown = np.zeros(len(examples), dtype=bool)
        if new.any():
            fresh = [examples[place] for place in np.flatnonzero(new)]
            encoder = context.recipe.route.encoder
            labels[new], unknown[new] = place_prompts(run, encoder, context.registry, fresh)
        check_enough(run, int((new & train).sum()), int((unknown & train).sum()))
        partitioner, found = self._partition_unknown(context, examples, unknown, train)
        labels[unknown] = np.where(found >= 0, found + len(before.names), found)
        names = _names(before, partitioner, examples, labels)
        (folder / "partitioner").mkdir(exist_ok=True)
        partitioner.save(folder / "partitioner")
        written = {each.id: int(label) for each, label in zip(examples, labels, strict=True)}
        write_json(folder / TASKS, {"names": names, "labels": written})
        added = [
            f"{name} ({int((labels[train] == label).sum())})"
            for label, name in enumerate(names)
            if label >= len(before.names)
        ]
        joined = int((new & ~unknown).sum())
        return (
            f"{len(before.names)} tasks kept, which {joined} new prompts join; "
            f"{int(unknown.sum())} unknown prompts make {len(added)}: {', '.join(added)}"
        )

    def _partition_unknown(
        self,
        context: RunContext,
        examples: Sequence[Example],
        unknown: NDArray[np.bool_],
        train: NDArray[np.bool_],
    ) -> tuple[Partitioner, NDArray[np.int64]]:
        """The partitioner fitted on unknown prompts, and their labels, from 0."""
        texts = np.array(partition_texts(context, list(examples)), dtype=object)[unknown]
        vectors = load_vectors(context.stage_folders["encode"])[unknown]
        learns = train[unknown]
        partitioner = make_plugin(context.registry, "partitioner", context.recipe.partition)
        assert isinstance(partitioner, Partitioner)
        asked = PartitionContext(context.recipe.seed, context.target)
        found = np.empty(len(texts), dtype=np.int64)
        found[learns] = partitioner.fit(vectors[learns], list(texts[learns]), asked)
        if not learns.all():
            found[~learns] = partitioner.predict(vectors[~learns], list(texts[~learns]))
        return partitioner, group(found, vectors, learns, context.recipe.partition.noise)


def group(
    found: NDArray[np.int64], vectors: NDArray[np.float32], train: NDArray[np.bool_], noise: str
) -> NDArray[np.int64]:
    """Tasks large enough to learn from.

    Args:
        found: int64 [N], labels; -1 for noise.
        vectors: float32 [N, D].
        train: bool [N].
        noise: The recipe's policy for noise and for what is in groups too small.

    Returns:
        int64 [N], 0..C-1 contiguous, -1 for what the policy drops; all 0 when no group is large
        enough.
    """
    sizes = {label: int(((found == label) & train).sum()) for label in np.unique(found[found >= 0])}
    large = [label for label, size in sizes.items() if size >= LEAST]
    if not large:
        return np.zeros_like(found)
    labels = np.full_like(found, _NOISE)
    for place, label in enumerate(large):
        labels[found == label] = place
    return resolve_noise(labels, vectors, train, noise)


def _names(
    before: Tasks,
    partitioner: Partitioner,
    examples: Sequence[Example],
    labels: NDArray[np.int64],
) -> list[str]:
    """The old names, then new ones, all distinct."""
    names = list(before.names)
    added = int(labels.max()) + 1 - len(names)
    own = [name.replace(" ", "-") for name in partitioner.task_names]
    if len(own) != added:
        own = key_terms([each.prompt_text for each in examples], labels)[len(names) :]
    for name in own:
        names.append(name if name not in names else f"{name}-{len(names)}")
    return names
