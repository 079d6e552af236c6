"""Typical acceptance: faster, and no longer the target's distribution."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from taskspec.decoding.sampling import sample
from taskspec.interfaces import Verdict, Verifier, option


@dataclass(frozen=True)
class TypicalOptions:
    """Options of `typical`."""

    threshold: float = option(0.09, "Probability from which on a drafted token always stands.")
    entropy_scale: float = option(
        0.3, "Where the target is unsure, exp(-entropy) times this is enough to stand."
    )

    def __post_init__(self) -> None:
        if not 0 < self.threshold <= 1:
            raise ValueError("threshold must be above 0 and at most 1")
        if not 0 < self.entropy_scale <= 1:
            raise ValueError("entropy_scale must be above 0 and at most 1")


class Typical(Verifier):
    """Accepts what the target finds plausible. NOT lossless: sampled answers change.

    Typical acceptance as in Medusa (Cai et al. 2024, arXiv 2401.10774, section 2.3.1): a token
    stands when p(x) > min(threshold, entropy_scale exp(-H(p))). Greedy answers stay the same.
    """

    name = "typical"
    Options = TypicalOptions
    lossless = False

    def verify(
        self,
        tokens: Tensor,
        lengths: Tensor,
        draft_probs: Tensor | None,
        target_probs: Tensor,
        noise: Tensor,
    ) -> Verdict:
        """Accept the plausible prefix; the next token is sampled from p after it."""
        rows, width = tokens.shape
        here = target_probs[:, :width]
        p = here.gather(-1, tokens[..., None])[..., 0]
        entropy = torch.special.entr(here).sum(-1)
        enough = (self.options.entropy_scale * torch.exp(-entropy)).clamp(
            max=self.options.threshold
        )
        drafted = torch.arange(width, device=tokens.device) < lengths[:, None]
        accepted = ((p > enough) & drafted).long().cumprod(1).sum(1)
        batch = torch.arange(rows, device=tokens.device)
        return Verdict(accepted, sample(target_probs[batch, accepted], noise[:, -1]))
