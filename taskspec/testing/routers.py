"""Checks of routers: probabilities one can act on."""

from __future__ import annotations

import statistics
import time
from typing import Any

import numpy as np

from taskspec.testing.check import check, require
from taskspec.testing.exercises import SEED, exercise_of, router_inputs
from taskspec.testing.toy_texts import TASKS, UNSEEN


@check("router")
def check_probabilities(router: Any) -> None:
    """`predict_proba` gives float32 [B, C], at least zero, rows summing to one; B = 1 too."""
    fitted = exercise_of(router).prepare(router)
    inputs, _ = router_inputs(router, 1)
    for count in (len(inputs), 1):
        found = fitted.predict_proba(inputs[:count])
        require(found.dtype == np.float32, f"probabilities are {found.dtype}, not float32")
        require(found.shape == (count, TASKS), f"shape {found.shape}, not {(count, TASKS)}")
        require(np.isfinite(found).all() and (found >= 0).all(), "NaN or negative probabilities")
        require(np.allclose(found.sum(axis=1), 1, atol=1e-5), "rows do not sum to one")


@check("router")
def check_learns_what_is_plain(router: Any) -> str:
    """Tasks that nobody can confuse are told apart on new prompts (at least 95 %)."""
    fitted = exercise_of(router).prepare(router)
    inputs, labels = router_inputs(router, 1)
    right = float((fitted.predict_proba(inputs).argmax(axis=1) == labels).mean())
    require(right >= 0.95, f"only {right:.0%} of plainly different prompts go to their task")
    return f"{right:.0%} right"


@check("router")
def check_column_is_label(router: Any) -> None:
    """Column c is label c, in whatever order labels first appear."""
    inputs, labels = router_inputs(router)
    renamed = (labels + 1) % TASKS
    fitted = type(router)(router.options)
    fitted.fit(inputs, renamed, SEED)
    guessed = fitted.predict_proba(inputs).argmax(axis=1)
    require((guessed == renamed).mean() >= 0.95, "columns are not in the order of the labels")


@check("router")
def check_label_without_examples(router: Any) -> None:
    """A label that no prompt has keeps its column, and is never the likeliest."""
    inputs, labels = router_inputs(router)
    gapped = np.where(labels == 2, 3, labels)
    fitted = type(router)(router.options)
    fitted.fit(inputs, gapped, SEED)
    found = fitted.predict_proba(inputs)
    require(found.shape[1] == 4, f"{found.shape[1]} columns for labels 0..3")
    require(np.isfinite(found).all(), "a label without any example gives NaN or infinity")
    require(np.allclose(found.sum(axis=1), 1, atol=1e-5), "rows do not sum to one")
    require(not (found.argmax(axis=1) == 2).any(), "prompts go to a label without any example")


@check("router")
def check_one_class(router: Any) -> None:
    """A single task is allowed; its probability is one."""
    inputs, labels = router_inputs(router)
    fitted = type(router)(router.options)
    fitted.fit(inputs, np.zeros_like(labels), SEED)
    found = fitted.predict_proba(inputs)
    require(found.shape == (len(labels), 1), f"shape {found.shape} for a single task")
    require(np.allclose(found, 1), "the only task has a probability below one")


@check("router")
def check_few_examples(router: Any) -> None:
    """Two prompts, one a task, are enough to fit."""
    inputs, labels = router_inputs(router)
    picks = [int(np.flatnonzero(labels == label)[0]) for label in (0, 1)]
    few = [inputs[index] for index in picks]
    fitted = type(router)(router.options)
    fitted.fit(few if router.reads_text else np.stack(few), np.array([0, 1]), SEED)
    found = fitted.predict_proba(inputs)
    require(np.isfinite(found).all() and found.shape[1] == 2, "two prompts give no usable router")


@check("router")
def check_unseen_words(router: Any) -> None:
    """Prompts of which nothing is known get finite probabilities that sum to one."""
    fitted = exercise_of(router).prepare(router)
    inputs: Any = list(UNSEEN)
    if not router.reads_text:
        inputs = np.zeros((len(UNSEEN), router_inputs(router)[0].shape[1]), dtype=np.float32)
    found = fitted.predict_proba(inputs)
    require(np.isfinite(found).all(), "unknown prompts give NaN")
    require(np.allclose(found.sum(axis=1), 1, atol=1e-5), "rows do not sum to one")


@check("router")
def check_prompts_are_independent(router: Any) -> None:
    """A prompt's probabilities are the same alone and in a batch."""
    fitted = exercise_of(router).prepare(router)
    inputs, _ = router_inputs(router, 1)
    together = fitted.predict_proba(inputs[:9])
    for index in (0, 4, 8):
        alone = fitted.predict_proba(inputs[index : index + 1])[0]
        require(np.allclose(alone, together[index], atol=1e-4), "alone, probabilities differ")


@check("router")
def check_doubt_shows(router: Any) -> None:
    """Between two tasks the router is less sure than within one, so that it can abstain."""
    fitted = exercise_of(router).prepare(router)
    inputs, labels = router_inputs(router)
    one, other = (int(np.flatnonzero(labels == label)[0]) for label in (0, 1))
    if router.reads_text:
        mixed: Any = [f"{inputs[one]} {inputs[other]}"]
    else:
        middle = inputs[one] + inputs[other]
        mixed = (middle / np.linalg.norm(middle))[None].astype(np.float32)
    doubtful = float(fitted.predict_proba(mixed).max())
    certain = float(np.median(fitted.predict_proba(inputs).max(axis=1)))
    require(
        doubtful <= certain + 1e-6,
        f"a prompt between two tasks gets {doubtful:.3f}, a plain one {certain:.3f}",
    )


@check("router")
def check_inputs_unchanged(router: Any) -> None:
    """Vectors and labels are not written to."""
    inputs, labels = router_inputs(router)
    before = list(inputs) if router.reads_text else inputs.copy()
    kept = labels.copy()
    fitted = type(router)(router.options)
    fitted.fit(inputs, labels, SEED)
    fitted.predict_proba(inputs)
    same = inputs == before if router.reads_text else np.array_equal(inputs, before)
    require(same and np.array_equal(labels, kept), "writes into the vectors or labels it is given")


@check("router")
def check_latency_is_measured(router: Any) -> str:
    """Routing one prompt works by itself, as it does for every request."""
    fitted = exercise_of(router).prepare(router)
    inputs, _ = router_inputs(router, 1)
    times = []
    for index in range(15):
        started = time.perf_counter()
        fitted.predict_proba(inputs[index : index + 1])
        times.append(time.perf_counter() - started)
    return f"median {1e3 * statistics.median(times):.3f} ms per prompt"
