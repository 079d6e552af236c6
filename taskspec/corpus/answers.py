"""The target's answers on disk, with the signal that alignment learns from."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from taskspec.errors import ArtifactError
from taskspec.files import replacing

_T = TypeVar("_T")
_LOOP_WINDOW = 32
_LOOP_DISTINCT = 12


@dataclass(frozen=True)
class TopTokens:
    """The k most likely tokens of the target at A positions, and what is left.

    Attributes:
        ids: int32 [A, k], most likely first.
        log_probs: float32 [A, k], normalised over the full vocabulary.
        tail: float32 [A], mass of all other tokens.
        vocabulary_size: V, tokens of the full vocabulary.
    """

    ids: Tensor
    log_probs: Tensor
    tail: Tensor
    vocabulary_size: int

    def to(self, device: torch.device) -> TopTokens:
        """The same on another device."""
        return replace(
            self,
            ids=self.ids.to(device),
            log_probs=self.log_probs.to(device),
            tail=self.tail.to(device),
        )

    def part(self, positions: slice) -> TopTokens:
        """Some of the positions."""
        return replace(
            self,
            ids=self.ids[positions],
            log_probs=self.log_probs[positions],
            tail=self.tail[positions],
        )

    @classmethod
    def cat(cls, parts: Sequence[TopTokens]) -> TopTokens:
        """Positions one after the other."""
        return cls(
            torch.cat([part.ids for part in parts]),
            torch.cat([part.log_probs for part in parts]),
            torch.cat([part.tail for part in parts]),
            parts[0].vocabulary_size,
        )


@dataclass(frozen=True)
class StoredAnswer:
    """One answered prompt, with the teacher signal that `collect.signal` asked for.

    Attributes:
        id: The prompt's id.
        prompt_ids: Prompt token ids.
        answer_ids: Answer token ids, the end token included when `finished`.
        finished: Whether the answer ended by itself rather than being cut.
        hidden: float [A, H]; row i is the target's final normalised hidden state at the position
            that predicts answer token i.
        log_normalizer: float32 [A], log-sum-exp of the full-vocabulary logits there.
        top: The target's most likely tokens there.
    """

    id: str
    prompt_ids: tuple[int, ...]
    answer_ids: tuple[int, ...]
    finished: bool
    hidden: Tensor | None = None
    log_normalizer: Tensor | None = None
    top: TopTokens | None = None


_IDS = ("prompt_ids", "answer_ids")


def write_answers(path: Path, answers: Sequence[StoredAnswer]) -> None:
    """Write answers to one safetensors file, whole or not at all.

    Raises:
        ValueError: When only some answers have a teacher signal, or half of one.
    """
    rows = [
        {
            "id": answer.id,
            "prompt": len(answer.prompt_ids),
            "answer": len(answer.answer_ids),
            "finished": answer.finished,
        }
        for answer in answers
    ]
    tensors = {
        "prompt_ids": torch.tensor([t for a in answers for t in a.prompt_ids], dtype=torch.int32),
        "answer_ids": torch.tensor([t for a in answers for t in a.answer_ids], dtype=torch.int32),
    }
    metadata = {"rows": json.dumps(rows)}
    for name in ("hidden", "log_normalizer"):
        values = _all_or_none(name, [getattr(answer, name) for answer in answers])
        if values:
            tensors[name] = torch.cat(values)
    if ("hidden" in tensors) != ("log_normalizer" in tensors):
        raise ValueError("hidden and log_normalizer are of use together only")
    tops = _all_or_none("top", [answer.top for answer in answers])
    if tops:
        top = TopTokens.cat(tops)
        tensors |= {"top_ids": top.ids, "top_log_probs": top.log_probs, "top_tail": top.tail}
        metadata["vocabulary_size"] = str(top.vocabulary_size)
    with replacing(path) as temporary:
        save_file(tensors, temporary, metadata=metadata)


def _all_or_none(name: str, values: Sequence[_T | None]) -> list[_T]:
    present = [value for value in values if value is not None]
    if present and len(present) < len(values):
        raise ValueError(f"either all answers have {name}, or none has it")
    return present


def read_answers(path: Path, signal: bool = True) -> list[StoredAnswer]:
    """Read what `write_answers` wrote.

    Args:
        path: The file.
        signal: Whether to read the teacher signal, too, which is nearly all of it.

    Raises:
        ArtifactError: When the file is missing or damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
            names = file.keys() if signal else _IDS
            tensors = {name: file.get_tensor(name) for name in names}
        return list(_answers(metadata, tensors))
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ArtifactError(
            f"{path} is missing or damaged ({error}); remove its folder and run the recipe again"
        ) from None


def _answers(metadata: Mapping[str, str], tensors: Mapping[str, Tensor]) -> Iterator[StoredAnswer]:
    rows: list[dict[str, Any]] = json.loads(metadata["rows"])
    prompt_lengths = [row["prompt"] for row in rows]
    answer_lengths = [row["answer"] for row in rows]
    # `split` refuses lengths that do not add up to the tensor's.
    parts = {
        name: torch.split(tensor, prompt_lengths if name == "prompt_ids" else answer_lengths)
        for name, tensor in tensors.items()
    }
    for index, row in enumerate(rows):
        top = None
        if "top_ids" in parts:
            top = TopTokens(
                parts["top_ids"][index],
                parts["top_log_probs"][index],
                parts["top_tail"][index],
                int(metadata["vocabulary_size"]),
            )
        yield StoredAnswer(
            row["id"],
            tuple(parts["prompt_ids"][index].tolist()),
            tuple(parts["answer_ids"][index].tolist()),
            row["finished"],
            parts["hidden"][index] if "hidden" in parts else None,
            parts["log_normalizer"][index] if "log_normalizer" in parts else None,
            top,
        )


def is_looping(token_ids: Sequence[int]) -> bool:
    """Whether a text's last 32 tokens hold at most 12 distinct ones; shorter texts never loop."""
    last = token_ids[-_LOOP_WINDOW:]
    return len(last) == _LOOP_WINDOW and len(set(last)) <= _LOOP_DISTINCT
