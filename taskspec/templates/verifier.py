"""Verifying by the target's first choice."""

from __future__ import annotations

import torch
from torch import Tensor

from taskspec.interfaces import Verdict, Verifier


class MyPlugin(Verifier):
    """Drafted tokens stand as long as each is the target's most likely one."""

    name = "my-plugin"
    lossless = True
    samples = False

    def verify(
        self,
        tokens: Tensor,
        lengths: Tensor,
        draft_probs: Tensor | None,
        target_probs: Tensor,
        noise: Tensor,
    ) -> Verdict:
        """Compare position by position; the target's own choice follows what stands."""
        choice = target_probs.argmax(dim=-1)
        accepted = torch.zeros_like(lengths)
        for row, length in enumerate(lengths.tolist()):
            agreeing = (tokens[row, :length] == choice[row, :length]).tolist()
            accepted[row] = (*agreeing, False).index(False)
        return Verdict(accepted, choice.gather(1, accepted[:, None])[:, 0])
