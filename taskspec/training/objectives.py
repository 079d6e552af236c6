"""Alignment objectives by name, and weighted mixtures of them."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from taskspec.training.losses import (
    cross_entropy,
    forward_kl,
    jensen_shannon,
    negative_log_acceptance,
    reverse_kl,
    total_variation,
    tvd_plus_plus,
)

_DIVERGENCES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "forward-kl": forward_kl,
    "reverse-kl": reverse_kl,
    "total-variation": total_variation,
    "tvd++": tvd_plus_plus,
    "log-acceptance": negative_log_acceptance,
}
_JENSEN_SHANNON, _CROSS_ENTROPY = "jensen-shannon", "cross-entropy"
OBJECTIVES = (*_DIVERGENCES, _JENSEN_SHANNON, _CROSS_ENTROPY)


@dataclass(frozen=True)
class Objective:
    """A weighted sum of losses.

    Attributes:
        weights: Positive weight of each loss, by a name of `OBJECTIVES`.
        beta: Weight of the target in `jensen-shannon`'s mixture, above 0 and below 1.
    """

    weights: Mapping[str, float]
    beta: float = 0.5

    @classmethod
    def parse(cls, value: Any, beta: float) -> Objective:
        """The objective that a recipe writes: a name, or names with their weights.

        Raises:
            ValueError: For an unknown name, a weight that is not positive or a beta out of
                range; it begins with the option's name, `objective` or `beta`.
        """
        if isinstance(value, str):
            value = {value: 1.0}
        if not isinstance(value, Mapping) or not value:
            raise ValueError(
                f"objective must be a name or names with weights, such as {{{OBJECTIVES[0]}: 1.0}}"
            )
        for name, weight in value.items():
            _check(str(name), weight)
        if not 0 < beta < 1:
            raise ValueError(f"beta must be above 0 and below 1, not {beta:g}")
        return cls({str(name): float(weight) for name, weight in value.items()}, beta)

    def loss(
        self,
        student_logits: Tensor,
        teacher_log_probs: Tensor,
        tokens: Tensor,
        vocabulary: Tensor | None,
    ) -> Tensor:
        """The weighted sum at M positions.

        Args:
            student_logits: float [M, Vd], with gradients.
            teacher_log_probs: float32 [M, Vd], normalised over the full vocabulary.
            tokens: int64 [M], what the target says.
            vocabulary: int64 [Vd] target ids of the columns; None for all.

        Returns:
            Scalar.
        """
        parts = []
        for name, weight in self.weights.items():
            if name == _CROSS_ENTROPY:
                part = cross_entropy(student_logits, columns_of(tokens, vocabulary))
            elif name == _JENSEN_SHANNON:
                part = jensen_shannon(student_logits, teacher_log_probs, self.beta)
            else:
                part = _DIVERGENCES[name](student_logits, teacher_log_probs)
            parts.append(part if weight == 1 else weight * part)
        return torch.stack(parts).sum() if len(parts) > 1 else parts[0]


def columns_of(tokens: Tensor, vocabulary: Tensor | None) -> Tensor:
    """Columns int64 [M] of tokens in a vocabulary [Vd] of target ids; -1 for those outside."""
    if vocabulary is None:
        return tokens
    vocabulary = vocabulary.to(tokens.device)
    size = int(torch.maximum(vocabulary.max(), tokens.max())) + 1
    column = tokens.new_full((size,), -1)
    column[vocabulary] = torch.arange(len(vocabulary), device=tokens.device)
    return column[tokens]


def _check(name: str, weight: Any) -> None:
    if name not in OBJECTIVES:
        close = difflib.get_close_matches(name, OBJECTIVES, n=1)
        hint = f" Did you mean '{close[0]}'?" if close else ""
        raise ValueError(f"objective '{name}' is unknown.{hint} Known: {', '.join(OBJECTIVES)}.")
    number = isinstance(weight, int | float) and not isinstance(weight, bool)
    if not number or not math.isfinite(weight) or weight <= 0:
        raise ValueError(f"objective '{name}' needs a positive weight, not {weight!r}")
