"""The target's answers on disk, with the signal that alignment learns from."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from taskspec.errors import ArtifactError
from taskspec.files import replacing

_LOOP_WINDOW = 32
_LOOP_DISTINCT = 12


@dataclass(frozen=True)
class StoredAnswer:
    """One answered prompt.

    Attributes:
        id: The prompt's id.
        prompt_ids: Prompt token ids.
        answer_ids: Answer token ids, the end token included when `finished`.
        finished: Whether the answer ended by itself rather than being cut.
        hidden: float [A, H]; row i is the target's final normalised hidden state at the position
            that predicts answer token i.
        log_normalizer: float32 [A], log-sum-exp of the full-vocabulary logits there.
    """

    id: str
    prompt_ids: tuple[int, ...]
    answer_ids: tuple[int, ...]
    finished: bool
    hidden: Tensor | None = None
    log_normalizer: Tensor | None = None


def write_answers(path: Path, answers: Sequence[StoredAnswer]) -> None:
    """Write answers to one safetensors file, whole or not at all.

    Raises:
        ValueError: When only some answers have the target's hidden states and log-normalizers.
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
    hidden = [each.hidden for each in answers if each.hidden is not None]
    log_normalizers = [each.log_normalizer for each in answers if each.log_normalizer is not None]
    if hidden or log_normalizers:
        if not len(hidden) == len(log_normalizers) == len(answers):
            raise ValueError("either all answers have hidden and log_normalizer, or none has any")
        tensors["hidden"] = torch.cat(hidden)
        tensors["log_normalizer"] = torch.cat(log_normalizers)
    with replacing(path) as temporary:
        save_file(tensors, temporary, metadata={"rows": json.dumps(rows)})


def read_answers(path: Path) -> list[StoredAnswer]:
    """Read what `write_answers` wrote.

    Raises:
        ArtifactError: When the file is missing or damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            rows = json.loads(file.metadata()["rows"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return list(_answers(rows, tensors))
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ArtifactError(
            f"{path} is missing or damaged ({error}); remove its folder and run the recipe again"
        ) from None


def _answers(rows: Sequence[Any], tensors: Mapping[str, Tensor]) -> Iterator[StoredAnswer]:
    prompt_lengths = [row["prompt"] for row in rows]
    answer_lengths = [row["answer"] for row in rows]
    # `split` refuses lengths that do not add up to the tensor's.
    parts = {
        name: torch.split(tensor, prompt_lengths if name == "prompt_ids" else answer_lengths)
        for name, tensor in tensors.items()
    }
    for index, row in enumerate(rows):
        yield StoredAnswer(
            row["id"],
            tuple(parts["prompt_ids"][index].tolist()),
            tuple(parts["answer_ids"][index].tolist()),
            row["finished"],
            parts["hidden"][index] if "hidden" in parts else None,
            parts["log_normalizer"][index] if "log_normalizer" in parts else None,
        )


def is_looping(token_ids: Sequence[int]) -> bool:
    """Whether a text's last 32 tokens hold at most 12 distinct ones; shorter texts never loop."""
    last = token_ids[-_LOOP_WINDOW:]
    return len(last) == _LOOP_WINDOW and len(set(last)) <= _LOOP_DISTINCT
