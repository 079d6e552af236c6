"""The target's signal: what is stored of it, as a training reads it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from taskspec.corpus.answers import TopTokens
from taskspec.errors import ModelError
from taskspec.models.processor import multipliable

Head = Callable[[Tensor], Tensor]
CHUNK = 256
"""Positions whose full-vocabulary logits are held at a time."""


@dataclass(frozen=True)
class StoredTeacherSignal:
    """The target at the M trained positions of a batch; see `interfaces.TeacherSignal`.

    A stored hidden state and log-normalizer give the target's whole distribution, at 2 H + 4
    bytes per token in bf16, with no truncation to the most likely tokens.

    Attributes:
        tokens: int64 [M], what the target says.
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
            bias = None if head.bias is None else multipliable(head.bias[vocabulary])
            weight = multipliable(head.weight[vocabulary])
            return nn.functional.linear(multipliable(self.hidden), weight, bias)
        logits = head(self.hidden)
        return logits if vocabulary is None else logits[:, vocabulary]

    def part(self, positions: slice) -> StoredTeacherSignal:
        """The view of some of the M positions."""
        return StoredTeacherSignal(
            self.tokens[positions],
            self.hidden[positions],
            self.log_normalizer[positions],
            self.target_head,
        )

    def to(self, device: torch.device, head: Head) -> StoredTeacherSignal:
        """The same on another device, where `head` is the target's output head."""
        return StoredTeacherSignal(
            self.tokens.to(device), self.hidden.to(device), self.log_normalizer.to(device), head
        )


@dataclass(frozen=True)
class TopKTeacherSignal:
    """The target at the M trained positions, from its k most likely tokens and the rest's mass.

    The mass of the V - k missing tokens is spread evenly over them. The total variation between
    this distribution and the target's is at most that mass (the k tokens agree, and two ways to
    spread a mass differ by no more than it), so a draft's alpha against it is off by at most
    that much too. It takes 8 k + 4 bytes per token.

    Attributes:
        tokens: int64 [M], what the target says.
        top: The k most likely tokens of the M positions.
    """

    tokens: Tensor
    top: TopTokens

    @property
    def hidden(self) -> Tensor:
        """Refused: nothing is stored of the target's states."""
        raise ModelError(
            "this draft learns from the target's hidden states, which collect.signal: top-k does "
            "not keep; set collect.signal to states or none"
        )

    def log_probs(self, vocabulary: Tensor | None) -> Tensor:
        """Approximate log-probabilities float32 [M, Vd] at these ids."""
        top, device = self.top, self.top.ids.device
        size = top.vocabulary_size
        if vocabulary is None:
            vocabulary = torch.arange(size, device=device)
        missing = max(1, size - top.ids.shape[1])
        each = (top.tail / missing).log()[:, None]  # [M, 1]
        # Tokens outside the vocabulary land in one column more, which is dropped.
        column = torch.full((size,), len(vocabulary), device=device)
        column[vocabulary.to(device)] = torch.arange(len(vocabulary), device=device)
        columns = column[top.ids.long()]  # [M, k]
        wide = each.repeat(1, len(vocabulary) + 1)
        return wide.scatter_(1, columns, top.log_probs)[:, :-1]

    def part(self, positions: slice) -> TopKTeacherSignal:
        """The view of some of the M positions."""
        return TopKTeacherSignal(self.tokens[positions], self.top.part(positions))

    def to(self, device: torch.device, head: Head) -> TopKTeacherSignal:
        """The same on another device; the head is not needed."""
        return TopKTeacherSignal(self.tokens.to(device), self.top.to(device))


@torch.inference_mode()
def top_tokens(hidden: Tensor, log_normalizer: Tensor, head: Head, k: int) -> TopTokens:
    """The k most likely tokens of the target at A positions, for storing.

    Args:
        hidden: float [A, H], final normalised hidden states, on the head's device.
        log_normalizer: float32 [A], log-sum-exp of the full-vocabulary logits.
        head: The target's output head.
        k: Tokens to keep; the whole vocabulary where that is smaller.
    """
    ids, log_probs, size = [], [], 0
    chunks = torch.split(hidden, CHUNK), torch.split(log_normalizer, CHUNK)
    for states, normalizer in zip(*chunks, strict=True):
        logits = head(states).float()
        size = logits.shape[-1]
        best = (logits - normalizer[:, None]).topk(min(k, size), dim=-1)
        ids.append(best.indices.int())
        log_probs.append(best.values)
    kept = torch.cat(log_probs)
    tail = (1 - kept.double().exp().sum(-1)).clamp(min=0).float()
    return TopTokens(torch.cat(ids), kept, tail, size)
