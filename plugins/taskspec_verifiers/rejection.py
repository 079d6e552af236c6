"""Rejection sampling: the emitted tokens have exactly the target's distribution."""

from __future__ import annotations

import torch
from torch import Tensor

from taskspec.decoding.sampling import sample
from taskspec.interfaces import Verdict, Verifier


class Rejection(Verifier):
    """Accepts a drafted token with probability min(1, p / q), else samples the residual.

    Leviathan et al. 2023 (arXiv 2211.17192, algorithm 1), Chen et al. 2023 (arXiv 2302.01318).
    """

    name = "rejection"

    def verify(
        self,
        tokens: Tensor,
        lengths: Tensor,
        draft_probs: Tensor | None,
        target_probs: Tensor,
        noise: Tensor,
    ) -> Verdict:
        """Accept leading tokens where u q < p; sample the residual (p - q)+ or the bonus from p."""
        rows, width = tokens.shape
        p = target_probs[:, :width].gather(-1, tokens[..., None])[..., 0]
        q = torch.ones_like(p)
        if draft_probs is not None and width:
            q = draft_probs.gather(-1, tokens[..., None])[..., 0]
        drafted = torch.arange(width, device=tokens.device) < lengths[:, None]
        # Strict, so that a token the target never says (p = 0) cannot stand even when u = 0.
        stands = (noise[:, :width].double() * q.double() < p.double()) & drafted
        accepted = stands.long().cumprod(dim=1).sum(dim=1)
        batch = torch.arange(rows, device=tokens.device)
        final = target_probs[batch, accepted].double()
        refused = accepted < lengths
        if bool(refused.any()):
            at = accepted.clamp(max=width - 1)
            if draft_probs is None:
                one_hot = torch.zeros_like(final).scatter_(1, tokens[batch, at][:, None], 1.0)
                residual = (final - one_hot).clamp(min=0)
            else:
                residual = (final - draft_probs[batch, at].double()).clamp(min=0)
            # Rounding can leave no residual where p and q agree; p itself is then right.
            usable = refused & (residual.sum(dim=-1) > 0)
            final = torch.where(usable[:, None], residual, final)
        return Verdict(accepted, sample(final, noise[:, -1]))
