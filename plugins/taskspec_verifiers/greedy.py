"""Greedy verification: a drafted token stands when it is the target's first choice."""

from __future__ import annotations

from torch import Tensor

from taskspec.interfaces import Verdict, Verifier


class Greedy(Verifier):
    """Accepts drafted tokens as long as each is the target's most likely one."""

    name = "greedy"
    samples = False

    def verify(
        self,
        tokens: Tensor,
        lengths: Tensor,
        draft_probs: Tensor | None,
        target_probs: Tensor,
        noise: Tensor,
    ) -> Verdict:
        """Compare with the target's argmax; the next token is its argmax after what stands."""
        best = target_probs.argmax(dim=-1)
        return self.verify_greedy(tokens, lengths, best, target_probs.shape[-1])
