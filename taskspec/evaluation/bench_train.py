"""How fast alignment trains: against a plain loop, and against the arithmetic alone."""

from __future__ import annotations

import copy
import csv
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from taskspec.corpus.answers import StoredAnswer
from taskspec.evaluation.bench_peers import PeerSettings, peer_speed
from taskspec.interfaces import Aligner, TrainableDrafter
from taskspec.models.loading import LanguageModel
from taskspec.recipe.alignment import AlignConfig
from taskspec.training.batches import make_packed_batch
from taskspec.training.fit import fit
from taskspec.training.lesson import Lesson
from taskspec.training.packing import (
    answer_tokens,
    padding_share,
    plan_batches,
    sequence_length,
)
from taskspec.training.throughput import compute_dtype, matmul_peak, synchronize

OURS, BARE = "taskspec", "forward + backward alone"
PEERS = ("Trainer, padded", "Trainer, grouped by length", "Trainer, flattened")
_WARM_UP, _SEED = 2, 0


@dataclass(frozen=True)
class Speed:
    """One way to train.

    Attributes:
        name: Its name.
        tokens_per_second: Tokens of prompts and answers per second, one value per repeat.
        ratios: Ours over this one's, of the same repeat.
    """

    name: str
    tokens_per_second: tuple[float, ...]
    ratios: tuple[float, ...]

    @property
    def median(self) -> float:
        """Median tokens per second."""
        return statistics.median(self.tokens_per_second)

    @property
    def ratio(self) -> float:
        """Median of ours over this one's."""
        return statistics.median(self.ratios)


@dataclass(frozen=True)
class TrainBench:
    """What was measured.

    Attributes:
        speeds: One per way to train, ours first.
        padding: Share of our token positions that is padding.
        peer_padding: The same of padded rows in random order.
        flops_per_token: The model's arithmetic, three times its forward pass.
        peak: Floating-point operations per second of the best matrix product here.
        parameters: Parameters that train.
    """

    speeds: tuple[Speed, ...]
    padding: float
    peer_padding: float
    flops_per_token: float
    peak: float
    parameters: int

    def mfu(self, speed: Speed) -> float:
        """Share of the measured peak that the model's arithmetic takes."""
        return speed.median * self.flops_per_token / self.peak


@dataclass(frozen=True)
class Subject:
    """What is trained, and on what.

    Attributes:
        drafter: The draft; every measurement trains a fresh copy.
        aligner: Makes a fresh aligner.
        answers: The texts.
        target: The target.
        config: Batch size and trainer settings.
        steps: Batches per measurement, warm-up included.
    """

    drafter: TrainableDrafter
    aligner: Callable[[], Aligner]
    answers: Sequence[StoredAnswer]
    target: LanguageModel
    config: AlignConfig
    steps: int

    def fresh(self) -> TrainableDrafter:
        """An untrained copy in float32."""
        copied = copy.copy(self.drafter)
        copied.module = copy.deepcopy(self.drafter.module).float()
        return copied


def bench_train(subject: Subject, repeats: int, on_done: Callable[[str], None]) -> TrainBench:
    """Measure every way in turn, several times, so that all see the same machine.

    Args:
        subject: What is trained.
        repeats: Rounds.
        on_done: Told the name of each measurement that is done.
    """
    lengths = [sequence_length(answer) for answer in subject.answers]
    rows = max(1, subject.config.batch_tokens * len(lengths) // sum(lengths))
    ways: dict[str, Callable[[], float]] = {OURS: lambda: _ours(subject)}
    for name in PEERS:
        ways[name] = _peer(subject, rows, name)
    ways[BARE] = lambda: _bare(subject)
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, measure in ways.items():
            found[name].append(measure())
            on_done(name)
    speeds = tuple(
        Speed(name, tuple(each), tuple(o / t for o, t in zip(found[OURS], each, strict=True)))
        for name, each in found.items()
    )
    return _report(subject, speeds, rows)


def _report(subject: Subject, speeds: tuple[Speed, ...], rows: int) -> TrainBench:
    config, answers = subject.config, subject.answers
    plan = _plan(subject)
    in_order = tuple((number,) for number in range(len(answers)))
    padded = [in_order[start : start + rows] for start in range(0, len(answers), rows)]
    lesson, drafter = _lesson(subject)
    made = make_packed_batch([[answers[i] for i in row] for row in plan[0]], subject.target.head)
    assert made.teacher is not None
    made = made.to(subject.target.device, subject.target.head)
    assert made.teacher is not None
    with _autocast(subject):
        lesson(made.batch, made.teacher)
    return TrainBench(
        speeds,
        padding_share(answers, plan),
        padding_share(answers, padded),
        3 * lesson.forward_flops / made.real_tokens,
        matmul_peak(subject.target.device, compute_dtype(config.trainer.precision)),
        sum(p.numel() for p in drafter.module.parameters() if p.requires_grad),
    )


def _plan(subject: Subject) -> list[tuple[tuple[int, ...], ...]]:
    everything = sum(len(answer.answer_ids) for answer in subject.answers)
    return plan_batches(subject.answers, subject.config.batch_tokens, everything, _SEED)


def _ours(subject: Subject) -> float:
    """Tokens per second by our own log, its first entry left out."""
    plan = _plan(subject)[: subject.steps]
    with tempfile.TemporaryDirectory() as place:
        fit(
            subject.fresh(),
            subject.aligner(),
            subject.answers,
            subject.target,
            subject.config,
            sum(answer_tokens(subject.answers, each) for each in plan),
            subject.config.learning_rate,
            _SEED,
            Path(place),
        )
        with (Path(place) / "log/metrics.csv").open() as file:
            rows = [row["tokens_per_second"] for row in csv.DictReader(file)]
    return statistics.harmonic_mean([float(each) for each in rows if each][1:])


def _peer(subject: Subject, rows: int, name: str) -> Callable[[], float]:
    def measure() -> float:
        lesson, drafter = _lesson(subject)
        return peer_speed(
            lesson.draft,
            subject.answers,
            subject.target.head,
            drafter.vocabulary,
            PeerSettings(
                rows,
                subject.steps,
                subject.config.learning_rate,
                subject.config.trainer.precision.startswith("bf16"),
                flattened=name == PEERS[2],
                grouped=name == PEERS[1],
            ),
        )

    return measure


def _bare(subject: Subject) -> float:
    """Tokens per second of forward, loss and backward on batches that lie ready."""
    lesson, _ = _lesson(subject)
    answers, target = subject.answers, subject.target
    made = [
        make_packed_batch([[answers[i] for i in row] for row in rows], target.head).to(
            target.device, target.head
        )
        for rows in _plan(subject)[: subject.steps]
    ]
    tokens, started = 0, 0.0
    for number, batch in enumerate(made):
        if number == _WARM_UP:
            synchronize(target.device)
            started = time.perf_counter()
        assert batch.teacher is not None
        with _autocast(subject):
            loss, _ = lesson(batch.batch, batch.teacher)
        loss.backward()
        lesson.zero_grad(set_to_none=True)
        tokens += batch.real_tokens if number >= _WARM_UP else 0
    synchronize(target.device)
    return tokens / (time.perf_counter() - started)


def _lesson(subject: Subject) -> tuple[Lesson, TrainableDrafter]:
    """A fresh draft ready to train, with our loss."""
    drafter, aligner = subject.fresh(), subject.aligner()
    module = aligner.prepare(drafter, _SEED).train()
    size, most = subject.target.vocabulary_size, subject.config.loss_logits
    return Lesson(drafter, module, aligner, size, most), drafter


def _autocast(subject: Subject) -> torch.autocast:
    dtype = compute_dtype(subject.config.trainer.precision)
    enabled = dtype != torch.float32
    return torch.autocast(
        subject.target.device.type, dtype if enabled else torch.bfloat16, enabled=enabled
    )
