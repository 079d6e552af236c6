"""Acme's verifier for TaskSpec."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from taskspec.hookspecs import hookimpl
from taskspec.interfaces import Verdict, Verifier


class Twin(Verifier):
    """Draws the target's own token everywhere; drafted ones stand as long as they agree.

    Lossless for any draft, because each emitted token is drawn from the target alone. A draft
    that samples is accepted less often than by rejection sampling.
    """

    name = "acme-twin"

    def verify(
        self,
        tokens: Tensor,
        lengths: Tensor,
        draft_probs: Tensor | None,
        target_probs: Tensor,
        noise: Tensor,
    ) -> Verdict:
        """Compare with the drawn tokens; the next token is the one drawn after what stands."""
        place = torch.arange(noise.shape[1], device=tokens.device)
        # After all drafted tokens the last column draws, wherever the row's padding begins.
        own = torch.where(place == lengths[:, None], noise[:, -1:], noise)
        cumulative = target_probs.double().cumsum(dim=-1)
        threshold = own.double()[..., None] * cumulative[..., -1:]
        drawn = (cumulative <= threshold).sum(dim=-1)
        stands = (tokens == drawn[:, :-1]) & (place[:-1] < lengths[:, None])
        accepted = stands.long().cumprod(dim=1).sum(dim=1)
        return Verdict(accepted, drawn.gather(1, accepted[:, None])[:, 0])


@hookimpl
def taskspec_verifiers() -> Iterable[type[Verifier]]:
    """Offer the verifier."""
    return (Twin,)
