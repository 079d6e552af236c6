"""The one place that turns logits into probabilities."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from taskspec.interfaces.sampling import Sampling


def probabilities(logits: Tensor, sampling: Sampling) -> Tensor:
    """Apply a request's logits processors: temperature, then top-k, then top-p.

    Args:
        logits: [..., V], any float dtype.
        sampling: The processors.

    Returns:
        float32 [..., V], rows sum to one; one-hot at the first largest logit when greedy.
    """
    if sampling.greedy:
        top = logits.argmax(dim=-1, keepdim=True)
        return torch.zeros(logits.shape, device=logits.device).scatter_(-1, top, 1.0)
    scaled = logits.float() - logits.float().amax(dim=-1, keepdim=True)
    scaled = scaled / sampling.temperature
    if 0 < sampling.top_k < scaled.shape[-1]:
        keep = scaled.topk(sampling.top_k, dim=-1).indices
        mask = torch.ones_like(scaled, dtype=torch.bool).scatter_(-1, keep, False)
        scaled = scaled.masked_fill(mask, -torch.inf)
    if sampling.top_p < 1:
        ordered, order = scaled.sort(dim=-1, descending=True, stable=True)
        mass = ordered.softmax(dim=-1, dtype=torch.float64).cumsum(dim=-1)
        before = torch.nn.functional.pad(mass[..., :-1], (1, 0))
        mask = torch.zeros_like(scaled, dtype=torch.bool)
        mask.scatter_(-1, order, before >= sampling.top_p)
        scaled = scaled.masked_fill(mask, -torch.inf)
    return scaled.softmax(dim=-1)


def probabilities_per_row(logits: Tensor, samplings: Sequence[Sampling]) -> Tensor:
    """`probabilities` of [B, n, V] logits whose rows may have processors of their own."""
    if len(set(samplings)) == 1:
        return probabilities(logits, samplings[0])
    return torch.stack(
        [probabilities(row, sampling) for row, sampling in zip(logits, samplings, strict=True)]
    )


def sample(probs: Tensor, noise: Tensor) -> Tensor:
    """Draw by the inverse of the cumulative distribution.

    Args:
        probs: float [..., V], non-negative, not all zero; need not be normalised.
        noise: float [...], uniform in [0, 1).

    Returns:
        int64 [...]; never a token of probability zero.
    """
    cumulative = probs.double().cumsum(dim=-1)
    threshold = noise.double().unsqueeze(-1) * cumulative[..., -1:]
    # The first entry above the threshold raised the sum, so its probability is not zero; float32
    # noise below one keeps the threshold below the total in float64.
    return torch.searchsorted(cumulative, threshold, right=True).squeeze(-1)
