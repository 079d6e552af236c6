"""Trainings of the toy draft, whole and cut off, and what they leave."""

from __future__ import annotations

import csv
import os
import signal
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from taskspec_aligners.kd import KD
from torch import Tensor

from taskspec.corpus.answers import StoredAnswer
from taskspec.interfaces import AlignmentLoss
from taskspec.recipe.alignment import AlignConfig, TrainerConfig
from taskspec.testing.toy_draft import ToyDraft, toy_answers, toy_draft
from taskspec.testing.toy_target import toy_target
from taskspec.training.fit import AlignmentReport, fit
from taskspec.training.packing import Rows, plan_batches

TRAINER = TrainerConfig(
    accelerator="cpu", devices="1", precision="32-true", val_check_interval=0.25
)
CONFIG = AlignConfig(batch_tokens=48, trainer=TRAINER)
TOKENS = 600


def uneven_answers() -> tuple[StoredAnswer, ...]:
    """The toy answers, which are equally long, cut to 1 to 12 tokens."""
    answers = []
    for number, answer in enumerate(toy_answers()):
        assert answer.hidden is not None and answer.log_normalizer is not None
        kept = slice(1 + 7 * number % 12)
        signal = {"hidden": answer.hidden[kept], "log_normalizer": answer.log_normalizer[kept]}
        answers.append(replace(answer, answer_ids=answer.answer_ids[kept], **signal))
    return tuple(answers)


def planned(answers: Sequence[StoredAnswer] | None = None) -> list[Rows]:
    """The batches of a training."""
    return plan_batches((answers or toy_answers())[2:], CONFIG.batch_tokens, TOKENS, seed=1)


def train(
    folder: Path,
    aligner: KD | None = None,
    config: AlignConfig = CONFIG,
    held_out: bool = True,
    learning_rate: float = 1e-2,
    answers: Sequence[StoredAnswer] | None = None,
) -> tuple[ToyDraft, AlignmentReport]:
    """Train a fresh draft, or go on in the same folder."""
    draft, answers = toy_draft(), answers or toy_answers()
    report = fit(
        draft,
        aligner or KD(),
        answers[2:],
        toy_target(),
        config,
        TOKENS,
        learning_rate,
        seed=1,
        folder=folder,
        held_out=answers[:2] if held_out else (),
    )
    return draft, report


def rows(folder: Path, name: str) -> list[tuple[int, float]]:
    """Step and value of every entry of a curve."""
    with (folder / "log/metrics.csv").open() as file:
        found = [(row["step"], row.get(name)) for row in csv.DictReader(file)]
    return [(int(step), float(value)) for step, value in found if value]


def curve(folder: Path, name: str) -> list[float]:
    """The values of a curve."""
    return [value for _, value in rows(folder, name)]


def weights(draft: ToyDraft) -> list[Tensor]:
    """Copies of a draft's weights."""
    return [each.detach().clone() for each in draft.module.state_dict().values()]


def same(one: ToyDraft, other: ToyDraft) -> bool:
    """Whether two drafts have the same weights, bit for bit."""
    return all(map(torch.equal, weights(one), weights(other)))


class CutOff(KD):
    """Fails, or tells its process to end, at one of its batches, and counts them."""

    def __init__(self, after: int = 10**6, by_signal: bool = True) -> None:
        super().__init__()
        self.after, self.by_signal, self.batches = after, by_signal, 0

    def loss(self, *arguments: Any) -> AlignmentLoss:
        """The loss, or the end."""
        self.batches += 1
        if self.batches == self.after:
            if not self.by_signal:
                raise RuntimeError("power cut")
            os.kill(os.getpid(), signal.SIGTERM)
        return super().loss(*arguments)
