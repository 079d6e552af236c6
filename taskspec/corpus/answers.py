"""The target's answers on disk, with the signal that alignment learns from."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from taskspec.errors import ArtifactError

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
    """Write answers to one safetensors file, whole or not at all."""
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
    if answers and all(answer.hidden is not None for answer in answers):
        tensors["hidden"] = torch.cat([a.hidden for a in answers if a.hidden is not None])
        tensors["log_normalizer"] = torch.cat(
            [a.log_normalizer for a in answers if a.log_normalizer is not None]
        )
    temporary = path.with_name(f".{path.name}.partial")
    save_file(tensors, temporary, metadata={"rows": json.dumps(rows)})
    os.replace(temporary, path)


def read_answers(path: Path) -> list[StoredAnswer]:
    """Read what `write_answers` wrote.

    Raises:
        ArtifactError: When the file is missing or damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            rows = json.loads(file.metadata()["rows"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, TypeError) as error:
        raise ArtifactError(
            f"{path} is missing or damaged ({error}); remove its folder and run the recipe again"
        ) from None
    prompts, ids = tensors["prompt_ids"].tolist(), tensors["answer_ids"].tolist()
    hidden, log_normalizer = tensors.get("hidden"), tensors.get("log_normalizer")
    answers, prompt_start, start = [], 0, 0
    for row in rows:
        prompt_end, end = prompt_start + row["prompt"], start + row["answer"]
        answers.append(
            StoredAnswer(
                row["id"],
                tuple(prompts[prompt_start:prompt_end]),
                tuple(ids[start:end]),
                row["finished"],
                None if hidden is None else hidden[start:end],
                None if log_normalizer is None else log_normalizer[start:end],
            )
        )
        prompt_start, start = prompt_end, end
    return answers


def is_looping(answer_ids: Sequence[int]) -> bool:
    """Whether an answer's last 32 tokens hold at most 12 distinct ones."""
    last = answer_ids[-_LOOP_WINDOW:]
    return len(last) == _LOOP_WINDOW and len(set(last)) <= _LOOP_DISTINCT
