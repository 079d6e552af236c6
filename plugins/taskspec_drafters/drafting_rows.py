"""A draft model at work on rows of different lengths, with a cache of its own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from taskspec.decoding.at_once import DraftsAtOnce
from taskspec.decoding.cached_model import CachedModel
from taskspec.decoding.sampling import probabilities_per_row, sample
from taskspec.interfaces import Sampling
from taskspec_drafters.confidence import Confidence


@dataclass(frozen=True)
class Draft:
    """What B rows drafted.

    Attributes:
        tokens: int64 [B, K] target ids, on the CPU.
        lengths: How many each row drafted.
        probs: float32 [B, K, Vd] that they were sampled from; None when all rows are greedy.
    """

    tokens: Tensor
    lengths: list[int]
    probs: Tensor | None = None


class DraftingRows(CachedModel, ABC):
    """Drafts token by token, or all at once where kernels or graphs can.

    Args:
        model: What `CachedModel` runs; its weights must not change while this is in use.
        head: Its output head.
        vocabulary: int64 [Vd] target ids of the head's rows; None for all.
        int8: As for `CachedModel`.
        stop_below: A draft ends before it is less likely than this to stand as a whole.
    """

    def __init__(
        self,
        model: nn.Module,
        head: nn.Module,
        vocabulary: Tensor | None,
        int8: bool = False,
        stop_below: float = 0.0,
    ) -> None:
        super().__init__(model, head, int8=int8)
        self.vocabulary = None if vocabulary is None else vocabulary.to(self.device)
        self.stop_below = stop_below
        self.drafting: DraftsAtOnce | None = None

    @abstractmethod
    def start(self, row: int, prompt: Sequence[int], hidden: Tensor | None) -> None:
        """Begin a row: run all but the prompt's last token.

        Args:
            row: Its number.
            prompt: n token ids.
            hidden: float [n - 1, H], the target's states at all but the last token, for drafts
                that read them.
        """

    @abstractmethod
    def commit(self, row: int, emitted: Sequence[int], states: Tensor | None) -> None:
        """Take in emitted tokens [c], with the target's states [c, H] for drafts that read them."""

    def stop(self, row: int) -> None:
        """Forget a row."""
        self.rollback(row, 0)

    @abstractmethod
    def _missing(self, rows: Sequence[int]) -> tuple[Tensor, list[int]]:
        """What the decoder reads of tokens that the rows' caches lack.

        Returns:
            [B, T, H], and how many of each row are real, at least one. They lack them no more.
        """

    @abstractmethod
    def _inputs(self, states: Tensor, tokens: Tensor) -> Tensor:
        """What the decoder reads, [B, T, H], of tokens [B, T] and the states before them."""

    def _make_room(self, row: int, count: int) -> None:
        """Prepare a row for so many drafted tokens; nothing to do where texts have no end."""

    def _note(self, row: int, drafted: Sequence[int]) -> None:
        """Remember a row's draft until it is judged; nothing to do where all of it is dropped."""

    @torch.inference_mode()
    def draft(
        self,
        rows: Sequence[int],
        k: Sequence[int],
        samplings: Sequence[Sampling] | None,
        noise: Tensor,
    ) -> Draft:
        """Draft up to k[b] tokens for each of B rows.

        Args:
            rows: Row numbers.
            k: Draft lengths.
            samplings: The rows' logits processors; None when all are greedy.
            noise: float32 [B, K].
        """
        for row, count in zip(rows, k, strict=True):
            self._make_room(row, count)
        if samplings is None and self.drafting is not None:
            drafted = self._at_once(self.drafting, rows, k)
        else:
            drafted = self._one_by_one(rows, k, samplings, noise)
        for row, own, length in zip(rows, drafted.tokens.tolist(), drafted.lengths, strict=True):
            self._note(row, own[:length])
        return drafted

    def _one_by_one(
        self,
        rows: Sequence[int],
        k: Sequence[int],
        samplings: Sequence[Sampling] | None,
        noise: Tensor,
    ) -> Draft:
        tokens = torch.zeros(len(rows), max(k), dtype=torch.int64, device=self.device)
        probs: Tensor | None = None
        lengths, confidence = list(k), Confidence(len(rows), self.stop_below, samplings)
        active: list[int] = []
        state = torch.empty(0)
        for place in range(max(k)):
            staying = [index for index in range(len(rows)) if lengths[index] > place]
            if not staying:
                break
            numbers = [rows[index] for index in staying]
            if place == 0:
                inputs, counts = self._missing(numbers)
            else:
                before = state[[active.index(index) for index in staying], None]
                inputs = self._inputs(before, tokens[staying, place - 1, None])
                counts = [1] * len(staying)
            states = self.forward_embeddings(numbers, inputs, counts)
            state = states[torch.arange(len(staying)), torch.tensor(counts) - 1]
            logits, q = self.head(state), None
            if samplings is not None:
                q = probabilities_per_row(logits[:, None], [samplings[i] for i in staying])[:, 0]
            going = confidence.lasting(staying, q, logits)
            active = [staying[each] for each in going]
            for index in set(staying) - set(active):
                lengths[index] = place
            state = state[going]
            if q is None:
                choice = logits[going].argmax(-1)
            else:
                q = q[going]
                choice = sample(q, noise[active, place].to(q.device))
                if probs is None:
                    probs = q.new_zeros(len(rows), max(k), q.shape[-1])
                probs[active, place] = q
            tokens[active, place] = choice if self.vocabulary is None else self.vocabulary[choice]
        return Draft(tokens.cpu(), lengths, probs)

    def _at_once(self, drafting: DraftsAtOnce, rows: Sequence[int], k: Sequence[int]) -> Draft:
        """The rows' most likely tokens, in one call."""
        tokens = torch.zeros(len(rows), max(k), dtype=torch.int64)
        lengths = list(k)
        mine = [index for index, length in enumerate(lengths) if length]
        if not mine:
            return Draft(tokens, lengths)
        numbers = [rows[index] for index in mine]
        inputs, counts = self._missing(numbers)
        steps = [lengths[index] for index in mine]
        drafted = drafting.run(numbers, inputs, counts, steps, self.stop_below)
        made = drafted.tokens.shape[1]
        for index, own, kept in zip(mine, drafted.tokens, drafted.counts, strict=True):
            row, count = rows[index], min(kept, lengths[index])
            lengths[index] = count
            tokens[index, :count] = own[:count]
            # What other rows drafted beyond this one's length is in its cache, too.
            self.rollback(row, self.length(row) - max(0, made - 1 - count))
        return Draft(tokens, lengths)
