"""Engines that lose something on purpose, to show that a certificate would have said so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from taskspec.decoding.engine import Engine
from taskspec.decoding.sampling import sample
from taskspec.interfaces import Verdict, Verifier

Spoil = Callable[[Verdict, Tensor, Tensor, Tensor], Verdict]
"""From a right verdict, draft lengths [B], target_probs [B, K+1, V] and noise: a wrong one."""


class _Faulty(Verifier):
    """Spoils another verifier's verdicts, and claims that it does not."""

    name = "faulty"

    def __init__(self, inner: Verifier, spoil: Spoil) -> None:
        super().__init__()
        self._inner, self._spoil = inner, spoil
        self.samples = inner.samples  # type: ignore[misc]

    def verify(
        self,
        tokens: Tensor,
        lengths: Tensor,
        draft_probs: Tensor | None,
        target_probs: Tensor,
        noise: Tensor,
    ) -> Verdict:
        """Verify as the other does, then spoil the verdict."""
        right = self._inner.verify(tokens, lengths, draft_probs, target_probs, noise)
        return self._spoil(right, lengths, target_probs, noise)

    def verify_greedy(
        self, tokens: Tensor, lengths: Tensor, best: Tensor, vocabulary_size: int
    ) -> Verdict:
        """Spoil what the other says of one-hot distributions."""
        right = self._inner.verify_greedy(tokens, lengths, best, vocabulary_size)
        probs = torch.zeros(*best.shape, vocabulary_size, device=best.device)
        probs.scatter_(-1, best[..., None], 1.0)
        return self._spoil(right, lengths, probs, probs[..., 0] * 0)


def _accept_all(right: Verdict, lengths: Tensor, target_probs: Tensor, noise: Tensor) -> Verdict:
    after = target_probs[torch.arange(len(lengths)), lengths]
    return Verdict(lengths.clone(), sample(after, noise[:, -1]))


def _lose_accepted(right: Verdict, lengths: Tensor, target_probs: Tensor, noise: Tensor) -> Verdict:
    return Verdict((right.accepted - 1).clamp(min=0), right.next_token)


def _forget_residual(
    right: Verdict, lengths: Tensor, target_probs: Tensor, noise: Tensor
) -> Verdict:
    """Sample the target's whole distribution, not what the draft left of it."""
    after = target_probs[torch.arange(len(lengths)), right.accepted]
    return Verdict(right.accepted, sample(after, noise[:, -1]))


def _keep_refused(engine: Engine) -> None:
    """A refused token stays in the target's cache after every step."""
    model, whole = engine.model, engine.model.rollback

    def rollback(row: int, length: int) -> None:
        kept = min(length + 1, model.cache.lengths[row]) if length else 0
        whole(row, kept)

    model.rollback = rollback  # type: ignore[method-assign]


@dataclass(frozen=True)
class Fault:
    """A way to lose something.

    Attributes:
        what: What the engine does wrong.
        in_verdicts: Whether the verifier is at fault.
        when_sampling: Whether greedy answers stay right.
        plant: Spoils an engine.
    """

    what: str
    in_verdicts: bool
    when_sampling: bool
    plant: Callable[[Engine], None]


def _of_verdicts(what: str, spoil: Spoil, when_sampling: bool = False) -> Fault:
    def plant(engine: Engine) -> None:
        engine.verifier = _Faulty(engine.verifier, spoil)

    return Fault(what, True, when_sampling, plant)


_FAULTS = (
    _of_verdicts("accepts whatever is drafted", _accept_all),
    _of_verdicts("leaves out an accepted token", _lose_accepted),
    _of_verdicts("samples the target anew after a refusal", _forget_residual, when_sampling=True),
    Fault("keeps a refused token in the cache", False, False, _keep_refused),
)


def faults_of(verifier: Verifier) -> tuple[Fault, ...]:
    """Faults that can lose something with a verifier, each in its own way."""
    return tuple(fault for fault in _FAULTS if verifier.samples or not fault.when_sampling)
