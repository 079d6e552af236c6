"""A plain Hugging Face Trainer loop on the same draft, loss and texts, to be compared with."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from taskspec.corpus.answers import StoredAnswer
from taskspec.models.quiet import quiet_transformers
from taskspec.training.losses import forward_kl
from taskspec.training.teacher import Head, StoredTeacherSignal

_WARM_UP = 2
_NO_LABEL = -100


@dataclass(frozen=True)
class PeerSettings:
    """How the loop is run.

    Attributes:
        rows: Texts per batch.
        steps: Optimizer steps.
        learning_rate: Peak rate.
        bf16: Whether it runs under bfloat16 autocast.
        flattened: Whether a batch is one row without padding (transformers'
            DataCollatorWithFlattening) rather than padded rows.
        grouped: Whether texts of similar length come together (transformers' own sampler).
    """

    rows: int
    steps: int
    learning_rate: float
    bf16: bool
    flattened: bool = False
    grouped: bool = False


def peer_speed(
    module: nn.Module,
    answers: Sequence[StoredAnswer],
    head: Head,
    vocabulary: Tensor | None,
    settings: PeerSettings,
) -> float:
    """Tokens per second, padding left out, of transformers' Trainer after its first steps.

    Args:
        module: The draft's model; trained in place.
        answers: Texts with the target's stored states, of which the loss makes use as ours does.
        head: The target's output head.
        vocabulary: int64 [Vd] target ids of the draft's columns.
        settings: How it is run.
    """
    from transformers import Trainer, TrainerCallback, TrainingArguments

    counts: list[int] = []
    times: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *arguments: Any, **rest: Any) -> None:
            if next(module.parameters()).is_cuda:
                torch.cuda.synchronize()
            times.append(time.perf_counter())

    class Distillation(Trainer):
        def compute_loss(self, model: nn.Module, inputs: Any, *_: Any, **rest: Any) -> Tensor:
            return _loss(model, inputs, head, vocabulary)

    texts = [_row(answer) for answer in answers]
    with tempfile.TemporaryDirectory() as folder, quiet_transformers():
        arguments = TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=settings.rows,
            max_steps=settings.steps,
            learning_rate=settings.learning_rate,
            lr_scheduler_type="cosine",
            bf16=settings.bf16,
            max_grad_norm=1.0,
            optim="adamw_torch_fused",
            logging_steps=5,
            save_strategy="no",
            report_to=[],
            remove_unused_columns=False,
            disable_tqdm=True,
            use_cpu=not next(module.parameters()).is_cuda,
            train_sampling_strategy="group_by_length" if settings.grouped else "random",
        )
        loop = Distillation(
            model=module,
            args=arguments,
            train_dataset=texts,
            data_collator=_collator(settings.flattened, counts),
            callbacks=[Clock()],
        )
        loop.log = lambda *arguments, **rest: None  # type: ignore[method-assign]
        loop.train()
    return sum(counts[_WARM_UP : len(times)]) / (times[-1] - times[_WARM_UP - 1])


def _row(answer: StoredAnswer) -> dict[str, Any]:
    ids = [*answer.prompt_ids, *answer.answer_ids]
    labels = [_NO_LABEL] * len(answer.prompt_ids) + list(answer.answer_ids)
    assert answer.hidden is not None and answer.log_normalizer is not None
    signal = {"hidden": answer.hidden, "log_normalizer": answer.log_normalizer}
    return {"input_ids": ids, "labels": labels, "length": len(ids), **signal}


def _collator(flattened: bool, counts: list[int]) -> Callable[[list[Any]], dict[str, Any]]:
    """A collate function that also notes how many real tokens each batch has."""
    from transformers import DataCollatorWithFlattening

    untyped: Any = DataCollatorWithFlattening
    flatten = untyped()

    def collate(rows: list[Any]) -> dict[str, Any]:
        # The last token of a text is no input of ours either.
        counts.append(sum(len(row["input_ids"]) - 1 for row in rows))
        texts = [{name: row[name] for name in ("input_ids", "labels")} for row in rows]
        made: dict[str, Any] = dict(flatten(texts)) if flattened else _padded(texts)
        for name in ("hidden", "log_normalizer"):
            made[name] = torch.cat([row[name] for row in rows])
        return made

    return collate


def _padded(rows: list[Any]) -> dict[str, Any]:
    pad = torch.nn.utils.rnn.pad_sequence
    ids = [torch.tensor(row["input_ids"]) for row in rows]
    labels = [torch.tensor(row["labels"]) for row in rows]
    return {
        "input_ids": pad(ids, batch_first=True),
        "labels": pad(labels, batch_first=True, padding_value=_NO_LABEL),
        "attention_mask": pad([torch.ones_like(each) for each in ids], batch_first=True),
    }


def _loss(model: nn.Module, inputs: Any, head: Head, vocabulary: Tensor | None) -> Tensor:
    """Forward KL at the answers' positions, from the logits that the model gives."""
    inputs = dict(inputs)
    labels = inputs.pop("labels")
    signal = inputs.pop("hidden"), inputs.pop("log_normalizer")
    logits = model(**inputs, use_cache=False).logits[:, :-1]
    trained = labels[:, 1:] != _NO_LABEL
    teacher = StoredTeacherSignal(labels[:, 1:][trained], *signal, head)
    return forward_kl(logits[trained], teacher.log_probs(vocabulary))
