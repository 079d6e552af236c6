"""Checks of partitioners: labels that stages can number tasks by."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from taskspec.errors import CorpusError
from taskspec.testing.check import check, require
from taskspec.testing.exercises import partition_context
from taskspec.testing.toy_texts import toy_texts, toy_vectors


def _fit(partitioner: Any, count: int | None = None) -> tuple[Any, NDArray[np.int64]]:
    fitted = type(partitioner)(partitioner.options)
    vectors, texts = toy_vectors()[0][:count], toy_texts()[0][:count]
    return fitted, fitted.fit(vectors, texts, partition_context())


def _require_labels(labels: Any, count: int) -> None:
    require(labels.dtype == np.int64, f"labels are {labels.dtype}; they must be int64")
    require(labels.shape == (count,), f"labels have shape {labels.shape}, not ({count},)")
    found = sorted(set(labels.tolist()) - {-1})
    require(found == list(range(len(found))), f"labels {found} are not 0..C-1 without a gap")


@check("partitioner")
def check_labels_are_contiguous(partitioner: Any) -> None:
    """`fit` gives int64 [N], 0..C-1 without a gap, -1 for noise."""
    _, labels = _fit(partitioner)
    _require_labels(labels, len(toy_texts()[0]))


@check("partitioner")
def check_names_are_one_per_task(partitioner: Any) -> None:
    """A partitioner that names tasks has one name, of its own, for every label."""
    fitted, labels = _fit(partitioner)
    names = fitted.task_names
    if names:
        require(len(names) == labels.max() + 1, f"{len(names)} names for {labels.max() + 1} tasks")
        require(len(set(names)) == len(names), f"names are given twice: {names}")


@check("partitioner")
def check_finds_what_is_plain(partitioner: Any) -> str:
    """Three groups that nobody can confuse are found: no group holds prompts of two."""
    _, labels = _fit(partitioner)
    _, truth = toy_vectors()
    kept = labels >= 0
    require(kept.mean() >= 0.8, f"{1 - kept.mean():.0%} of plainly grouped prompts are noise")
    mixed = [label for label in set(labels[kept].tolist()) if len(set(truth[labels == label])) > 1]
    require(not mixed, "prompts of different groups share a label")
    return f"{len(set(labels[kept].tolist()))} tasks for 3 planted groups"


@check("partitioner")
def check_predict_agrees_with_fit(partitioner: Any) -> None:
    """`predict` labels the training prompts as `fit` did (noise may be resolved)."""
    fitted, labels = _fit(partitioner)
    again = fitted.predict(toy_vectors()[0], toy_texts()[0])
    require(again.dtype == np.int64, f"predict gives {again.dtype}; it must be int64")
    clear = labels >= 0
    agree = float((again[clear] == labels[clear]).mean()) if clear.any() else 1.0
    require(agree >= 0.95, f"predict agrees with fit on only {agree:.0%} of the training prompts")


@check("partitioner")
def check_predict_stays_in_range(partitioner: Any) -> None:
    """New prompts get labels that `fit` gave, or -1; a single one and none too."""
    fitted, labels = _fit(partitioner)
    known = set(labels.tolist()) | {-1}
    vectors, texts = toy_vectors(1)[0], toy_texts(1)[0]
    for count in (len(texts), 1, 0):
        found = fitted.predict(vectors[:count], texts[:count])
        require(found.shape == (count,), f"predict gives shape {found.shape} for {count} prompts")
        require(set(found.tolist()) <= known, "predict invents labels")


@check("partitioner")
def check_too_few_prompts(partitioner: Any) -> None:
    """With fewer prompts than tasks: valid labels, or one message that says what to do."""
    for count in (0, 1, 2):
        try:
            _, labels = _fit(partitioner, count)
        except CorpusError as error:
            require(len(str(error)) > 20, f"the message '{error}' does not say what to do")
            continue
        require(count > 0, "no prompts at all must be a CorpusError")
        _require_labels(labels, count)


@check("partitioner")
def check_equal_prompts(partitioner: Any) -> None:
    """A corpus of one prompt repeated is one task or a clear message, not a crash."""
    fitted = type(partitioner)(partitioner.options)
    vectors = np.repeat(toy_vectors()[0][:1], 30, axis=0)
    try:
        labels = fitted.fit(vectors, toy_texts()[0][:1] * 30, partition_context())
    except CorpusError as error:
        require(len(str(error)) > 20, f"the message '{error}' does not say what to do")
        return
    _require_labels(labels, 30)
    require(len(set(labels.tolist())) == 1, "equal prompts get different labels")


@check("partitioner")
def check_order_of_prompts_means_little(partitioner: Any) -> None:
    """The same prompts in another order are grouped the same way."""
    _, labels = _fit(partitioner)
    order = np.random.default_rng(0).permutation(len(labels))
    fitted = type(partitioner)(partitioner.options)
    texts = [toy_texts()[0][index] for index in order]
    shuffled = fitted.fit(toy_vectors()[0][order], texts, partition_context())
    together = labels[order, None] == labels[None, order]
    again = shuffled[:, None] == shuffled[None, :]
    share = float((together == again).mean())
    require(share >= 0.95, f"in another order only {share:.0%} of pairs stay together or apart")


@check("partitioner")
def check_inputs_unchanged(partitioner: Any) -> None:
    """The vectors are not written to."""
    vectors, texts = toy_vectors()[0], toy_texts()[0]
    before = vectors.copy()
    fitted = type(partitioner)(partitioner.options)
    fitted.fit(vectors, texts, partition_context())
    fitted.predict(vectors, texts)
    require(np.array_equal(vectors, before), "writes into the vectors it is given")


@check("partitioner")
def check_used_before_fit(partitioner: Any) -> None:
    """`predict` after `load` needs no `fit`; before either it fails rather than answers."""
    fresh = type(partitioner)(partitioner.options)
    try:
        fresh.predict(toy_vectors()[0][:1], toy_texts()[0][:1])
    except Exception:
        return
    require(False, "predicts labels although it was never fitted")
