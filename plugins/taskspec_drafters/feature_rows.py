"""A feature network at work on rows of different lengths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from taskspec.decoding.at_once import DraftsAtOnce
from taskspec.decoding.cached_model import CachedModel
from taskspec.decoding.native.drafting import Fusion
from taskspec.decoding.native.linear import NativeLinear
from taskspec.decoding.packing import packed
from taskspec.decoding.sampling import probabilities_per_row, sample
from taskspec.interfaces import Sampling
from taskspec_drafters.confidence import Confidence
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


class FeatureRows(CachedModel):
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
        super().__init__(network, network.head, int8=int8)
        self.network, self.fusion = network, packed(network.fusion, int8)
        self.stop_below = stop_below
        self.embedding = network.get_input_embeddings()
        self.vocabulary = None if vocabulary is None else vocabulary.to(self.device)
        self.waiting: dict[int, _Waiting] = {}
        self.drafting = self.greedy_drafting(self.vocabulary, self._fused, self._native_fusion())

    def _native_fusion(self) -> Fusion | None:
        """The fusion as the kernels take it; None where they do not run."""
        if not isinstance(self.fusion, NativeLinear):
            return None
        norms = (self.network.state_norm, self.network.token_norm)
        weights = [norm.weight.detach().float() for norm in norms]
        return Fusion(self.fusion, weights[0], weights[1], norms[0].eps or 0.0)

    @torch.inference_mode()
    def start(self, row: int, prompt: Sequence[int], hidden: Tensor) -> None:
        """Begin a row: run all but the prompt's last token.

        Args:
            row: Its number.
            prompt: n token ids.
            hidden: float [n - 1, H], the target's states at all but the last token.
        """
        self.rollback(row, 0)
        states = torch.cat([hidden.new_zeros(1, hidden.shape[-1]), hidden])
        known = len(prompt) - 1
        if known:
            tokens = torch.tensor([prompt[:-1]], device=self.device)
            self.predict([row], states[None, :-1], tokens, [known])
        self.waiting[row] = _Waiting([prompt[-1]], states[-1:].clone(), known)

    @torch.inference_mode()
    def draft(
        self,
        rows: Sequence[int],
        k: Sequence[int],
        samplings: Sequence[Sampling] | None,
        noise: Tensor,
    ) -> tuple[Tensor, list[int], Tensor | None]:
        """Draft up to k[b] tokens for each of B rows.

        Args:
            rows: Row numbers.
            k: Draft lengths.
            samplings: The rows' logits processors; None when all are greedy.
            noise: float32 [B, K].

        Returns:
            Target ids int64 [B, K], how many each row drafted, and the distributions float32
            [B, K, Vd] they were sampled from; None when all rows are greedy.
        """
        tokens = torch.zeros(len(rows), max(k), dtype=torch.int64, device=self.device)
        probs: Tensor | None = None
        lengths, confidence = list(k), Confidence(len(rows), self.stop_below)
        if samplings is None and self.drafting is not None:
            self._draft_at_once(self.drafting, rows, lengths, tokens)
            return tokens, lengths, None
        active: list[int] = []
        for place in range(max(k)):
            staying = [index for index in range(len(rows)) if lengths[index] > place]
            if not staying:
                break
            numbers = [rows[index] for index in staying]
            kept = [active.index(index) for index in staying] if place else []
            if place == 0:
                predicted = self._catch_up(numbers)
            else:
                before, last = predicted[kept, None], tokens[staying, place - 1, None]
                predicted = self.predict(numbers, before, last, [1] * len(staying))
            logits, q = self.head(predicted), None
            if samplings is not None:
                q = probabilities_per_row(logits[:, None], [samplings[i] for i in staying])[:, 0]
            going = confidence.lasting(staying, q, logits)
            for index in set(staying) - {staying[each] for each in going}:
                lengths[index] = place
            active = [staying[each] for each in going]
            predicted, logits = predicted[going], logits[going]
            if q is None:
                choice = logits.argmax(-1)
            else:
                q = q[going]
                choice = sample(q, noise[active, place].to(q.device))
                if probs is None:
                    probs = q.new_zeros(len(rows), max(k), q.shape[-1])
                probs[active, place] = q
            tokens[active, place] = choice if self.vocabulary is None else self.vocabulary[choice]
        return tokens, lengths, probs

    def _draft_at_once(
        self, drafting: DraftsAtOnce, rows: Sequence[int], lengths: list[int], tokens: Tensor
    ) -> None:
        """Draft rows' most likely tokens in one call, into tokens [B, K] and lengths."""
        mine = [index for index, length in enumerate(lengths) if length]
        if not mine:
            return
        numbers = [rows[index] for index in mine]
        fused, counts = self._waiting_inputs(numbers)
        steps = max(lengths[index] for index in mine)
        drafted = drafting.run(numbers, fused, counts, steps, self.stop_below)
        for index, own, kept in zip(mine, drafted.tokens, drafted.counts, strict=True):
            count = lengths[index] = min(kept, lengths[index])
            tokens[index, :count] = own[:count]

    @torch.inference_mode()
    def commit(self, row: int, emitted: Sequence[int], states: Tensor) -> None:
        """Drop what was drafted; decided tokens [c] wait with the target's states [c, H]."""
        waiting = self.waiting[row]
        self.rollback(row, waiting.decided)
        waiting.tokens += emitted
        waiting.states = torch.cat([waiting.states, states])

    def stop(self, row: int) -> None:
        """Forget a row."""
        self.waiting.pop(row, None)
        self.rollback(row, 0)

    @torch.inference_mode()
    def predict(
        self, rows: Sequence[int], states: Tensor, tokens: Tensor, counts: Sequence[int]
    ) -> Tensor:
        """Append tokens to rows and predict the state at the last of each.

        Args:
            rows: B row numbers.
            states: float [B, T, H], the state before each token.
            tokens: int64 [B, T]; row b's first counts[b] are real, the rest padding.
            counts: Real tokens of each row, at least 1. The rows' lengths grow by these.

        Returns:
            float [B, H].
        """
        predicted = self.forward_embeddings(rows, self._fused(states, tokens), counts)
        return predicted[torch.arange(len(rows)), torch.tensor(counts) - 1]

    def _fused(self, states: Tensor, tokens: Tensor) -> Tensor:
        """What the layer reads, float [B, T, H], of tokens [B, T] and the states before them."""
        embeddings = self.embedding(tokens).to(self.dtype)
        return self.network.fuse_with(self.fusion, states.to(self.dtype), embeddings).to(self.dtype)

    def _catch_up(self, rows: Sequence[int]) -> Tensor:
        """Take in the decided tokens that wait; the predicted state [B, H] at the last."""
        fused, counts = self._waiting_inputs(rows)
        predicted = self.forward_embeddings(rows, fused, counts)
        return predicted[torch.arange(len(rows)), torch.tensor(counts) - 1]

    def _waiting_inputs(self, rows: Sequence[int]) -> tuple[Tensor, list[int]]:
        """What the layer reads of waiting tokens, [B, T, H], and how many; they wait no more."""
        waiting = [self.waiting[row] for row in rows]
        counts = [len(each.tokens) for each in waiting]
        padded = [each.tokens + [0] * (max(counts) - len(each.tokens)) for each in waiting]
        before = nn.utils.rnn.pad_sequence([each.states for each in waiting], batch_first=True)
        for each, count in zip(waiting, counts, strict=True):
            each.tokens, each.states = [], each.states[:0]
            each.decided += count
        return self._fused(before, torch.tensor(padded, device=self.device)), counts
