"""The target's signal, recomputed exactly from its stored final hidden states."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

Head = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class StoredTeacherSignal:
    """The target at the M trained positions of a batch; see `interfaces.TeacherSignal`.

    A stored hidden state and log-normalizer give the target's whole distribution, at 2 H + 4
    bytes per token in bf16, with no truncation to the most likely tokens.

    Attributes:
        tokens: int64 [M], the answer tokens.
        hidden: float [M, H], final normalised hidden states.
        log_normalizer: float32 [M], log-sum-exp of the full-vocabulary logits.
        target_head: The target's output head.
    """

    tokens: Tensor
    hidden: Tensor
    log_normalizer: Tensor
    target_head: Head

    @torch.no_grad()
    def log_probs(self, vocabulary: Tensor | None) -> Tensor:
        """Target log-probabilities float32 [M, Vd], normalised over the full vocabulary."""
        # Stored states come from the target in its own dtype; autocast would round them again.
        with torch.autocast(self.hidden.device.type, enabled=False):
            logits = self._logits(vocabulary).float()
        return logits - self.log_normalizer[:, None]

    def _logits(self, vocabulary: Tensor | None) -> Tensor:
        head = self.target_head
        if vocabulary is not None and isinstance(head, nn.Linear):
            bias = None if head.bias is None else head.bias[vocabulary]
            return nn.functional.linear(self.hidden, head.weight[vocabulary], bias)
        logits = head(self.hidden)
        return logits if vocabulary is None else logits[:, vocabulary]
