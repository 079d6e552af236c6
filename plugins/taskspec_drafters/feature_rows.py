"""A feature network at work on rows of different lengths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from taskspec.decoding.native.drafting import Fusion
from taskspec.decoding.native.linear import NativeLinear
from taskspec.decoding.packing import packed
from taskspec.errors import DecodingError
from taskspec_drafters.drafting_rows import DraftingRows
from taskspec_drafters.feature_model import FeatureNetwork


@dataclass
class _Waiting:
    """Decided tokens that a row's cache lacks, at least one before a proposal.

    Attributes:
        tokens: The tokens.
        states: float [len(tokens), H], the target's state before each.
        decided: Cache positions of decided tokens, all made from the target's states.
    """

    tokens: list[int]
    states: Tensor
    decided: int


class FeatureRows(DraftingRows):
    """Runs a feature network with a cache of keys and values of its own.

    Position j of a row takes token j and the state before it: the target's for decided tokens,
    the network's own for drafted ones. Those are dropped at each commit, so that what is cached
    is what a fresh start on the same text would cache.

    Args:
        network: The network; its weights must not change while this is in use.
        vocabulary: int64 [Vd] target ids of the head's rows; None for all.
        int8: As for `CachedModel`.
        stop_below: A draft ends before it is less likely than this to stand as a whole.
    """

    def __init__(
        self,
        network: FeatureNetwork,
        vocabulary: Tensor | None,
        int8: bool = False,
        stop_below: float = 0.0,
    ) -> None:
        super().__init__(network, network.head, vocabulary, int8, stop_below)
        self.network, self.fusion = network, packed(network.fusion, int8)
        self.waiting: dict[int, _Waiting] = {}
        self.drafting = self.greedy_drafting(self.vocabulary, self._inputs, self._native_fusion())

    def _native_fusion(self) -> Fusion | None:
        """The fusion as the kernels take it; None where they do not run."""
        if not isinstance(self.fusion, NativeLinear):
            return None
        norms = (self.network.state_norm, self.network.token_norm)
        weights = [norm.weight.detach().float() for norm in norms]
        return Fusion(self.fusion, weights[0], weights[1], norms[0].eps or 0.0)

    @torch.inference_mode()
    def start(self, row: int, prompt: Sequence[int], hidden: Tensor | None) -> None:
        """Run all but the prompt's last token."""
        given = _given(hidden)
        self.rollback(row, 0)
        states = torch.cat([given.new_zeros(1, given.shape[-1]), given])
        known = len(prompt) - 1
        if known:
            tokens = torch.tensor([prompt[:-1]], device=self.device)
            self.forward_embeddings([row], self._inputs(states[None, :-1], tokens))
        self.waiting[row] = _Waiting([prompt[-1]], states[-1:].clone(), known)

    @torch.inference_mode()
    def commit(self, row: int, emitted: Sequence[int], states: Tensor | None) -> None:
        """Drop what was drafted; emitted tokens wait with the target's states."""
        waiting = self.waiting[row]
        self.rollback(row, waiting.decided)
        waiting.tokens += emitted
        waiting.states = torch.cat([waiting.states, _given(states)])

    def stop(self, row: int) -> None:
        """Forget a row."""
        self.waiting.pop(row, None)
        super().stop(row)

    def _missing(self, rows: Sequence[int]) -> tuple[Tensor, list[int]]:
        waiting = [self.waiting[row] for row in rows]
        counts = [len(each.tokens) for each in waiting]
        padded = [each.tokens + [0] * (max(counts) - len(each.tokens)) for each in waiting]
        before = nn.utils.rnn.pad_sequence([each.states for each in waiting], batch_first=True)
        for each, count in zip(waiting, counts, strict=True):
            each.tokens, each.states = [], each.states[:0]
            each.decided += count
        return self._inputs(before, torch.tensor(padded, device=self.device)), counts

    def _inputs(self, states: Tensor, tokens: Tensor) -> Tensor:
        embeddings = self.embed(tokens).to(self.dtype)
        return self.network.fuse_with(self.fusion, states.to(self.dtype), embeddings).to(self.dtype)


def _given(states: Tensor | None) -> Tensor:
    if states is None:
        raise DecodingError(
            "drafter 'feature' drafts from the target's hidden states, but was given none; "
            "hand it those that `hidden_layers` names"
        )
    return states
