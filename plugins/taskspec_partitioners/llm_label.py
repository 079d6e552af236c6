"""Tasks as a language model sees them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from taskspec.errors import CorpusError, ModelError
from taskspec.interfaces import PartitionContext, Partitioner, option
from taskspec.models.endpoint import Server
from taskspec_partitioners.asking import Labeller
from taskspec_partitioners.names import name_tasks

_TARGET = "target"
_ROWS = 4096


@dataclass(frozen=True)
class LlmLabelOptions:
    """Options of `llm-label`."""

    labels: list[str] = option([], "Names of the tasks to choose from; none lets the model name.")
    model: str = option(
        _TARGET, "`target`, a catalog name, hub id or folder; with `endpoint` its name there."
    )
    sample: int = option(150, "Prompts that the model is asked about; the rest follow these.")
    neighbours: int = option(5, "Labelled prompts nearest to a prompt that vote for its task.")
    characters: int = option(800, "Longest part of a prompt that the model is shown.")
    min_share: float = option(0.05, "Smallest share of the sample that makes a named task.")
    max_tasks: int = option(12, "Most tasks that free naming may find.")
    dtype: str = option("bfloat16", "Type of the weights of a local model that is not the target.")
    endpoint: str = option("", "Address of an OpenAI-compatible server, such as http://host/v1.")
    key_variable: str = option("", "Environment variable with the endpoint's key; none if empty.")
    timeout: float = option(60.0, "Seconds until a request to the endpoint is given up.")
    retries: int = option(3, "Times that a failed request is repeated, with growing pauses.")
    max_requests: int = option(500, "Requests after which the endpoint is asked no more.")
    max_tokens: int = option(200_000, "Tokens, read and written, after which it is asked no more.")
    answer_tokens: int = option(16, "Longest answer of the endpoint; more for models that think.")

    def __post_init__(self) -> None:
        different = {label.strip().lower() for label in self.labels}
        if self.labels and (len(different) < len(self.labels) or len(different) < 2):
            raise ValueError("labels must be at least two different names, or none")
        if "" in different:
            raise ValueError("labels must not be empty texts")
        if self.endpoint and not self.endpoint.startswith(("http://", "https://")):
            raise ValueError("endpoint must begin with http:// or https://")
        if self.endpoint and self.model == _TARGET:
            raise ValueError("model must be the name of the model that the endpoint serves")
        if not self.model:
            raise ValueError("model must not be empty")
        if self.dtype not in ("float32", "bfloat16"):
            raise ValueError(f"dtype must be float32 or bfloat16, not '{self.dtype}'")
        if not 0 < self.min_share < 1:
            raise ValueError("min_share must be above 0 and below 1")
        if not self.timeout > 0:
            raise ValueError("timeout must be positive")
        if self.retries < 0:
            raise ValueError("retries must be at least 0")
        for name in ("sample", "neighbours", "characters", "max_tasks"):
            _at_least_one(name, getattr(self, name))
        for name in ("max_requests", "max_tokens", "answer_tokens"):
            _at_least_one(name, getattr(self, name))


class LlmLabelPartitioner(Partitioner):
    """A language model labels a sample of the prompts; the others take their neighbours' label.

    With `labels` it chooses among them. A local model is not asked to write: each label is scored
    by its likelihood per token as the answer, less what it scores for a request without content
    (contextual calibration, arXiv 2102.09690). An endpoint writes the label.

    Without `labels` the model names the task of each prompt freely; near-equal names are merged,
    by their words and by how mixed their prompts are in vector space, and rare names dissolve.
    This asks more of a model than choosing does: small ones find better names when given `labels`.

    A prompt's task is voted by its nearest labelled prompts, itself included, so that single
    mistakes of the model are outvoted. `predict` asks no model.
    """

    name = "llm-label"
    Options = LlmLabelOptions

    def __init__(self, options: LlmLabelOptions | None = None) -> None:
        super().__init__(options)
        self.task_names: tuple[str, ...] = ()
        self._vectors: NDArray[np.float32] | None = None
        self._labels: NDArray[np.int64] = np.empty(0, dtype=np.int64)

    def fit(
        self, vectors: NDArray[np.float32], texts: Sequence[str], context: PartitionContext
    ) -> NDArray[np.int64]:
        """Label the sample, then all prompts; labels int64 [N] are 0..C-1, the largest task first.

        Raises:
            CorpusError: Without prompts, or when no name comes up twice.
            ModelError: When the model cannot be loaded, or the endpoint gives no label at all.
        """
        if not len(texts):
            raise CorpusError("llm-label: there are no prompts to label; add some to the corpus")
        generator = np.random.default_rng(context.seed)
        count = min(self.options.sample, len(texts))
        sample = np.sort(generator.choice(len(texts), count, replace=False))
        shown = [texts[place] for place in sample]
        labeller = _make_labeller(self.options, context)
        if self.options.labels:
            chosen = labeller.choose(shown, self.options.labels)
            labels = np.array([-1 if each is None else each for each in chosen], dtype=np.int64)
            names = list(self.options.labels)
        else:
            names, labels = name_tasks(
                labeller.name(shown),
                _unit(vectors[sample]),
                self.options.min_share,
                self.options.max_tasks,
            )
            if not names:
                raise CorpusError(
                    f"llm-label: the model gave no two of the {count} prompts a common name; "
                    "write the tasks into partition.options.labels, or name a larger model"
                )
        known = labels >= 0
        return self._settle(_unit(vectors[sample][known]), labels[known], names, vectors)

    def predict(self, vectors: NDArray[np.float32], texts: Sequence[str]) -> NDArray[np.int64]:
        """The task that the nearest labelled prompts vote for, by similarity."""
        assert self._vectors is not None, "fit or load the partitioner first"
        return _vote(vectors, self._vectors, self._labels, self.options.neighbours)

    def save(self, folder: Path) -> None:
        """Write the labelled prompts' vectors and the tasks' names."""
        assert self._vectors is not None, "fit the partitioner first"
        save_file(
            {"vectors": self._vectors, "labels": self._labels}, folder / "llm-label.safetensors"
        )
        text = json.dumps({"tasks": list(self.task_names)}, ensure_ascii=False)
        (folder / "llm-label.json").write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, options: LlmLabelOptions) -> Self:
        """Restore; no model is needed."""
        partitioner = cls(options)
        state = load_file(folder / "llm-label.safetensors")
        partitioner._vectors, partitioner._labels = state["vectors"], state["labels"]
        saved = json.loads((folder / "llm-label.json").read_text(encoding="utf-8"))
        partitioner.task_names = tuple(saved["tasks"])
        return partitioner

    def _settle(
        self,
        known: NDArray[np.float32],
        labels: NDArray[np.int64],
        names: Sequence[str],
        vectors: NDArray[np.float32],
    ) -> NDArray[np.int64]:
        """Drop tasks that no prompt is voted into, and number the others by size.

        Ties go to the lower number, so that numbering anew may empty a task; it is dropped, too.
        """
        voted = _vote(vectors, known, labels, self.options.neighbours)
        while True:
            sizes = np.bincount(voted, minlength=len(names))
            order = np.argsort(-sizes, kind="stable")[: np.count_nonzero(sizes)]
            rank = np.full(len(names), -1)
            rank[order] = np.arange(len(order))
            alive = rank[labels] >= 0
            known, labels = known[alive], rank[labels][alive]
            names = [names[each] for each in order]
            voted = _vote(vectors, known, labels, self.options.neighbours)
            if len(np.unique(voted)) == len(names):
                break
        self.task_names = tuple(names)
        self._vectors, self._labels = np.ascontiguousarray(known), labels
        return voted


def _make_labeller(options: LlmLabelOptions, context: PartitionContext) -> Labeller:
    """The model that the options name."""
    if options.endpoint:
        from taskspec_partitioners.endpoint import Endpoint, EndpointLabeller

        return EndpointLabeller(
            Endpoint(
                Server(options.endpoint, options.key_variable, options.timeout, options.retries),
                model=options.model,
                max_requests=options.max_requests,
                max_tokens=options.max_tokens,
                answer_tokens=options.answer_tokens,
                characters=options.characters,
            )
        )
    from taskspec_partitioners.local_labels import LocalLabeller

    if options.model != _TARGET:
        from taskspec.models.loading import load_language_model

        return LocalLabeller(load_language_model(options.model, options.dtype), options.characters)
    if context.target is None:
        raise ModelError(
            "llm-label: there is no target to ask here; name a model or an endpoint in its options"
        )
    return LocalLabeller(context.target, options.characters)


def _vote(
    vectors: NDArray[np.float32],
    known: NDArray[np.float32],
    labels: NDArray[np.int64],
    neighbours: int,
) -> NDArray[np.int64]:
    """The label with the largest sum of cosines among the nearest known vectors, int64 [N]."""
    voters = np.eye(int(labels.max()) + 1, dtype=np.float32)[labels]  # [S, C]
    parts = [np.empty(0, dtype=np.int64)]
    for start in range(0, len(vectors), _ROWS):
        similarity = _unit(vectors[start : start + _ROWS]) @ known.T
        near = np.argsort(-similarity, axis=1, kind="stable")[:, :neighbours]
        # One is added so that unlike prompts vote too where there are no others.
        weights = 1 + np.take_along_axis(similarity, near, axis=1)
        parts.append((weights[..., None] * voters[near]).sum(axis=1).argmax(axis=1))
    return np.concatenate(parts).astype(np.int64)


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: NDArray[np.float32] = (vectors / np.maximum(lengths, 1e-12)).astype(np.float32)
    return unit


def _at_least_one(name: str, value: int) -> None:
    if value < 1:
        raise ValueError(f"{name} must be at least 1, not {value}")
