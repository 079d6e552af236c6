"""One typical use of each plugin kind, for the checks that every kind shares."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from taskspec.interfaces import PartitionContext, Sampling
from taskspec.testing.check import kind_of
from taskspec.testing.toy_draft import toy_alignment, toy_draft
from taskspec.testing.toy_members import toy_members
from taskspec.testing.toy_target import states, toy_corpus, toy_prompts, toy_target
from taskspec.testing.toy_texts import UNSEEN, toy_texts, toy_vectors
from taskspec.testing.toy_verification import VerifierCase, verifier_case

SEED = 3


@dataclass(frozen=True)
class Exercise:
    """How a kind is used.

    Attributes:
        prepare: Makes a new, fitted or built plugin of the same class and options.
        results: What a prepared plugin answers; equal plugins answer equally.
        load: Restores from a folder what `save` wrote; None for kinds without state.
    """

    prepare: Callable[[Any], Any]
    results: Callable[[Any], list[Any]]
    load: Callable[[Any, Path], Any] | None = None


def exercise_of(plugin: Any) -> Exercise:
    """The exercise of a plugin's kind."""
    return _EXERCISES[kind_of(plugin)]


def router_inputs(plugin: Any, seed: int = 0) -> tuple[Any, Any]:
    """Sixty prompts as the router reads them, and their labels."""
    return toy_texts(seed) if plugin.reads_text else toy_vectors(seed)


def partition_context() -> PartitionContext:
    """The context of all partitioner checks."""
    return PartitionContext(SEED, toy_target())


def started_rows(drafter: Any, sampling: Sampling, count: int = 3) -> list[int]:
    """Start rows 0..count-1 on the toy prompts."""
    for row, prompt in enumerate(toy_prompts(count)):
        start_row(drafter, row, prompt, sampling)
    return list(range(count))


def start_row(drafter: Any, row: int, prompt: list[int], sampling: Sampling) -> None:
    """Start a row as the engine does, with target states when the drafter wants them."""
    drafter.start(row, prompt, sampling, prompt_states(drafter, prompt), None)


def prompt_states(drafter: Any, prompt: list[int]) -> Tensor | None:
    """States [len(prompt) - 1, H * layers] that the drafter asks for."""
    if not drafter.hidden_layers:
        return None
    return states(toy_target(), prompt, drafter.hidden_layers)[:-1]


def _fresh(plugin: Any) -> Any:
    return type(plugin)(plugin.options)


def _fitted_encoder(plugin: Any) -> Any:
    encoder = _fresh(plugin)
    encoder.fit(toy_texts()[0])
    return encoder


def _encoder_results(encoder: Any) -> list[Any]:
    return [encoder.encode(toy_texts(1)[0]), encoder.encode(list(UNSEEN))]


def _fitted_partitioner(plugin: Any) -> Any:
    partitioner = _fresh(plugin)
    partitioner.fit(toy_vectors()[0], toy_texts()[0], partition_context())
    return partitioner


def _partitioner_results(partitioner: Any) -> list[Any]:
    return [partitioner.predict(toy_vectors(1)[0], toy_texts(1)[0])]


def _fitted_router(plugin: Any) -> Any:
    router = _fresh(plugin)
    router.fit(*router_inputs(plugin), SEED)
    return router


def _router_results(router: Any) -> list[Any]:
    return [router.predict_proba(router_inputs(router, 1)[0])]


def _built_drafter(plugin: Any) -> Any:
    return _joined(type(plugin).build(toy_target(), toy_corpus(), plugin.options))


def _joined(drafter: Any) -> Any:
    """Give a drafter that drafts with others some to draft with."""
    named = type(drafter).members(drafter.options)
    if named:
        drafter.join(toy_members(len(named)))
    return drafter


def _drafter_results(drafter: Any) -> list[Any]:
    results: list[Any] = []
    for sampling in (Sampling(), Sampling(1.0, top_k=20)):
        rows = started_rows(drafter, sampling)
        noise = torch.rand(len(rows), 3, generator=torch.Generator().manual_seed(SEED))
        proposal = drafter.propose(rows, [3] * len(rows), noise)
        drafted = torch.arange(proposal.tokens.shape[1]) < proposal.lengths[:, None]
        results += [proposal.lengths, proposal.tokens * drafted]
        if proposal.probs is not None:
            results.append(proposal.probs * drafted[..., None])
        for row in rows:
            drafter.stop(row)
    return results


def _load_drafter(plugin: Any, folder: Path) -> Any:
    return _joined(type(plugin).load(folder, toy_target(), plugin.options))


def _aligner_results(aligner: Any) -> list[Any]:
    draft, made = toy_draft(), toy_alignment()
    aligner.prepare(draft, SEED)
    assert made.teacher is not None
    result = aligner.loss(draft.training_logits(made.batch, made.teacher), made.teacher, None)
    return [result.loss.detach(), *(value.detach() for value in result.metrics.values())]


def _verifier_results(verifier: Any) -> list[Any]:
    case: VerifierCase = verifier_case(SEED, greedy=not verifier.samples)
    verdict = case.verify(verifier)
    return [verdict.accepted, verdict.next_token]


def _load_by_options(plugin: Any, folder: Path) -> Any:
    return type(plugin).load(folder, plugin.options)


_EXERCISES: Mapping[str, Exercise] = {
    "encoder": Exercise(_fitted_encoder, _encoder_results, _load_by_options),
    "partitioner": Exercise(_fitted_partitioner, _partitioner_results, _load_by_options),
    "router": Exercise(_fitted_router, _router_results, _load_by_options),
    "drafter": Exercise(_built_drafter, _drafter_results, _load_drafter),
    "aligner": Exercise(_fresh, _aligner_results),
    "verifier": Exercise(_fresh, _verifier_results),
}


def same(first: list[Any], second: list[Any]) -> bool:
    """Whether two results are equal, up to rounding of floats."""
    if len(first) != len(second):
        return False
    for one, other in zip(map(np.asarray, first), map(np.asarray, second), strict=True):
        if one.shape != other.shape:
            return False
        exact = not np.issubdtype(one.dtype, np.floating)
        if not (np.array_equal(one, other) if exact else np.allclose(one, other, atol=1e-5)):
            return False
    return True
