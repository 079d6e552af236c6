"""Drafts whose rows may each have an adapter: every adapter has rows at work of its own."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from taskspec.interfaces import Proposal, Sampling
from taskspec.models.quiet import quiet_transformers
from taskspec_drafters.drafting_rows import DraftingRows
from taskspec_drafters.task_vocabulary import (
    NarrowedByTask,
    columns_in,
    load_vocabulary,
    narrow_head,
    spread,
)


@dataclass(frozen=True)
class _Adapted:
    """A copy of the draft with an adapter merged into it, and the ids of its head's rows."""

    module: nn.Module
    vocabulary: Tensor | None


@dataclass(frozen=True)
class _Row:
    """How a request is served."""

    sampling: Sampling
    adapter: str | None


class DraftsByAdapter(NarrowedByTask):
    """One draft model and its adapters, merged into copies that share the input embeddings."""

    def __init__(self, options: Any, module: nn.Module | None, vocabulary: Tensor | None) -> None:
        super().__init__(options, vocabulary)
        self._module = module
        self._adapted: dict[str, _Adapted] = {}
        self._running: dict[str | None, DraftingRows] = {}
        self._rows: dict[int, _Row] = {}

    @abstractmethod
    def _work(self, module: Any, vocabulary: Tensor | None) -> DraftingRows:
        """The rows of a draft model whose head's rows are these target ids."""

    @property
    def module(self) -> nn.Module:
        """The draft model."""
        assert self._module is not None, "build or load the drafter first"
        return self._module

    @module.setter
    def module(self, module: nn.Module) -> None:
        self._module = module
        self._running.clear()

    def _unwrapped(self) -> Any:
        """The model, within which peft puts its adapters."""
        module: Any = self.module
        return module.get_base_model() if hasattr(module, "get_base_model") else module

    @property
    def training_head(self) -> nn.Module:
        """The output head."""
        head: nn.Module = self._unwrapped().get_output_embeddings()
        return head

    def add_adapter(self, name: str, folder: Path) -> None:
        """Load a PEFT adapter, merged into a copy that shares the embeddings."""
        from peft import PeftModel

        whole = self._unwrapped()
        embeddings = whole.get_input_embeddings()
        base = copy.deepcopy(whole, memo={id(embeddings): embeddings})
        own = load_vocabulary(folder)
        if own is not None:
            narrow_head(base, self._vocabulary, own)
        with quiet_transformers():
            merged = PeftModel.from_pretrained(base, folder).merge_and_unload().eval()
        self._adapted[name] = _Adapted(merged, self._vocabulary if own is None else own)
        self._running.pop(name, None)

    def start(
        self,
        row: int,
        prompt: Sequence[int],
        sampling: Sampling,
        hidden: Tensor | None = None,
        adapter: str | None = None,
    ) -> None:
        """Run the prompt, all but its last token."""
        self._at_work(adapter).start(row, prompt, hidden)
        self._rows[row] = _Row(sampling, adapter)

    @torch.inference_mode()
    def propose(self, rows: Sequence[int], k: Sequence[int], noise: Tensor) -> Proposal:
        """Draft up to k[b] tokens for each row, one pass of the draft per token."""
        served = [self._rows[row] for row in rows]
        sampled = not all(row.sampling.greedy for row in served)
        tokens = torch.zeros(len(rows), max(k), dtype=torch.int64)
        lengths = torch.zeros(len(rows), dtype=torch.int64)
        probs: Tensor | None = None
        for adapter in dict.fromkeys(row.adapter for row in served):
            mine = [index for index, row in enumerate(served) if row.adapter == adapter]
            drafted = self._at_work(adapter).draft(
                [rows[index] for index in mine],
                [k[index] for index in mine],
                [served[index].sampling for index in mine] if sampled else None,
                noise[mine],
            )
            tokens[mine, : drafted.tokens.shape[1]] = drafted.tokens
            lengths[mine] = torch.tensor(drafted.lengths)
            if drafted.probs is not None:
                q = self._widened(drafted.probs, adapter)
                if probs is None:
                    probs = q.new_zeros(len(rows), max(k), q.shape[-1])
                probs[mine, : q.shape[1]] = q
        return Proposal(tokens, lengths, probs, self._vocabulary)

    def commit(
        self, rows: Sequence[int], tokens: Tensor, counts: Tensor, hidden: Tensor | None = None
    ) -> None:
        """Let the emitted tokens take the place of what was drafted."""
        emitted = zip(rows, tokens.tolist(), counts.tolist(), strict=True)
        for index, (row, new, count) in enumerate(emitted):
            states = None if hidden is None else hidden[index, :count]
            self._at_work(self._rows[row].adapter).commit(row, new[:count], states)

    def stop(self, row: int) -> None:
        """Forget the row."""
        served = self._rows.pop(row, None)
        if served is not None:
            self._at_work(served.adapter).stop(row)

    def _at_work(self, adapter: str | None) -> DraftingRows:
        """The rows of an adapter; its model is prepared for decoding on first use."""
        if adapter not in self._running:
            module: Any = self._unwrapped() if adapter is None else self._adapted[adapter].module
            self._running[adapter] = self._work(module, self._vocabulary_of(adapter))
        return self._running[adapter]

    def _vocabulary_of(self, adapter: str | None) -> Tensor | None:
        """Target ids of the rows of the head that drafts with an adapter."""
        return self._vocabulary if adapter is None else self._adapted[adapter].vocabulary

    def _widened(self, q: Tensor, adapter: str | None) -> Tensor:
        """An adapter's distributions [..., Vt] over the draft's vocabulary [..., Vd]."""
        own = self._vocabulary_of(adapter)
        if own is None or own is self._vocabulary:
            return q
        columns = self._unwrapped().get_output_embeddings().out_features
        return spread(q, columns_in(self._vocabulary, own), columns)
