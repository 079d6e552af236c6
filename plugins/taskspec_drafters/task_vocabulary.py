"""Output vocabularies of single tasks, cut out of a draft's own."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from taskspec.interfaces import DraftCorpus, TrainableDrafter
from taskspec.models.cutting import keep_head_rows

_FILE, _NAME = "vocabulary.safetensors", "vocabulary"


class NarrowedByTask(TrainableDrafter):
    """A draft whose output head may be narrowed to each task, by its option `task_vocabulary`."""

    def __init__(self, options: Any, vocabulary: Tensor | None) -> None:
        super().__init__(options)
        self._vocabulary = vocabulary
        self._end_tokens: Collection[int] = ()
        self._narrowed = False

    @property
    def vocabulary(self) -> Tensor | None:
        """int64 [Vd] target ids of the output head's rows."""
        return self._vocabulary

    @abstractmethod
    def _unwrapped(self) -> Any:
        """The model, within which peft puts its adapters."""

    def specialise(self, corpus: DraftCorpus) -> None:
        """Leave the output head the tokens that a task uses most."""
        model, known = self._unwrapped(), self._vocabulary
        rows, size = model.get_output_embeddings().out_features, self.options.task_vocabulary
        if 0 < size < rows:
            own = task_vocabulary(known, rows, size, corpus, self._end_tokens)
            narrow_head(model, known, own)
            self._vocabulary, self._narrowed = own, True

    def save_adapter_extras(self, folder: Path) -> None:
        """Write the task's vocabulary, if it has one of its own."""
        if self._narrowed:
            assert self._vocabulary is not None
            save_file({_NAME: self._vocabulary.cpu()}, folder / _FILE)


def task_vocabulary(
    known: Tensor | None, whole: int, size: int, corpus: DraftCorpus, always: Collection[int]
) -> Tensor:
    """The ids of a draft's vocabulary that a task uses most.

    Args:
        known: int64 [Vd] ascending ids that the draft has; None for all.
        whole: V, ids of the whole vocabulary.
        size: Ids wanted, fewer than there are.
        corpus: The task's texts.
        always: Ids that must stay, such as the end tokens.

    Returns:
        int64 [size], ascending.
    """
    ids = torch.arange(whole).tolist() if known is None else known.tolist()
    counts = Counter(token for text in (*corpus.answers, *corpus.prompts) for token in text)
    # Sorting is stable: of ids that occur as often the lowest stay.
    ranked = sorted(ids, key=lambda token: (token not in always, -counts[token]))
    return torch.tensor(sorted(ranked[:size]), dtype=torch.int64)


def columns_in(known: Tensor | None, ids: Tensor) -> Tensor:
    """Where ids stand in an ascending vocabulary, int64 like `ids`."""
    return ids if known is None else torch.searchsorted(known, ids.to(known.device))


def narrow_head(model: Any, known: Tensor | None, ids: Tensor) -> None:
    """Leave a model's output head the rows of these ids."""
    keep_head_rows(model, columns_in(known, ids))


def spread(q: Tensor, columns: Tensor, size: int) -> Tensor:
    """Distributions [..., Vt] over a task's vocabulary as ones [..., Vd] over the draft's."""
    wide = q.new_zeros(*q.shape[:-1], size)
    wide[..., columns.to(q.device)] = q
    return wide


def load_vocabulary(folder: Path) -> Tensor | None:
    """The ids beside an adapter; None when it has the draft's whole vocabulary."""
    path = folder / _FILE
    return load_file(path)[_NAME] if path.is_file() else None
