"""Block verification: drafted tokens are judged together, and more of them stand."""

from __future__ import annotations

import torch
from torch import Tensor

from taskspec.decoding.sampling import sample
from taskspec.interfaces import Verdict, Verifier


class Block(Verifier):
    """Judges all drafted tokens of a step jointly; accepts at least as many as `rejection`.

    Sun et al. 2024 (arXiv 2403.10444, algorithm 2). A token's early luck or bad luck is carried
    over to the tokens after it, and the longest prefix that stands is kept.
    """

    name = "block"

    def verify(
        self,
        tokens: Tensor,
        lengths: Tensor,
        draft_probs: Tensor | None,
        target_probs: Tensor,
        noise: Tensor,
    ) -> Verdict:
        """Keep the longest prefix that stands; sample its residual, or the bonus token from p."""
        rows, width = tokens.shape
        batch = torch.arange(rows, device=tokens.device)
        carried = _carried(tokens, draft_probs, target_probs)  # [B, K+1], p_i of the paper
        accepted = torch.zeros_like(lengths)
        for place in range(1, width + 1):
            weight = carried[:, place]
            stands = weight
            if place < width:
                mass = _residual(tokens, draft_probs, target_probs, weight, place).sum(-1)
                total = mass + 1 - weight
                inner = torch.where(total > 0, mass / total.clamp(min=1e-300), 0.0)
                stands = torch.where(lengths > place, inner, weight)
            # Strict, so that what the target never says cannot stand even when the noise is 0.
            kept = (noise[:, place - 1].double() < stands) & (lengths >= place)
            accepted = torch.where(kept, place, accepted)
        final = target_probs[batch, accepted].double()
        refused = accepted < lengths
        for place in range(width):
            here = refused & (accepted == place)
            residual = _residual(tokens, draft_probs, target_probs, carried[:, place], place)
            # Rounding can leave no residual where p and q agree; p itself is then right.
            usable = here & (residual.sum(-1) > 0)
            final = torch.where(usable[:, None], residual, final)
        return Verdict(accepted, sample(final, noise[:, -1]))


def _carried(tokens: Tensor, draft_probs: Tensor | None, target_probs: Tensor) -> Tensor:
    """p_0 = 1, p_i = min(1, p_(i-1) p(x_i) / q(x_i)): float64 [B, K+1] (equation 3)."""
    rows, width = tokens.shape
    p = target_probs[:, :width].gather(-1, tokens[..., None])[..., 0].double()
    q = torch.ones_like(p)
    if draft_probs is not None and width:
        q = draft_probs.gather(-1, tokens[..., None])[..., 0].double()
    carried = [torch.ones(rows, dtype=torch.float64, device=tokens.device)]
    for place in range(width):
        ratio = p[:, place] / q[:, place].clamp(min=1e-300)
        carried.append((carried[-1] * ratio).clamp(max=1))
    return torch.stack(carried, 1)


def _residual(
    tokens: Tensor,
    draft_probs: Tensor | None,
    target_probs: Tensor,
    weight: Tensor,
    place: int,
) -> Tensor:
    """(p_i p(.) - q(.))+ after `place` accepted tokens: float64 [B, V] (equation 4)."""
    p = target_probs[:, place].double()
    if draft_probs is None:
        q = torch.zeros_like(p).scatter_(1, tokens[:, place, None], 1.0)
    else:
        q = draft_probs[:, place].double()
    return (weight[:, None] * p - q).clamp(min=0)
