"""Driving Lightning's Trainer for one alignment."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from lightning import Trainer
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, RichProgressBar
from lightning.pytorch.loggers import CSVLogger

from taskspec.corpus.answers import StoredAnswer
from taskspec.interfaces import Aligner, Target, TrainableDrafter
from taskspec.models.quiet import quiet_lightning
from taskspec.recipe.schema import AlignConfig, TrainerConfig
from taskspec.training.data import AlignmentData, has_signal
from taskspec.training.module import AlignmentModule
from taskspec.training.on_policy import writes_itself
from taskspec.training.teacher import OnlineTeacher

_CHECKPOINTS = 10


@dataclass(frozen=True)
class AlignmentReport:
    """What a training run did.

    Attributes:
        tokens: Answer tokens trained on, repeats counted; where the draft writes its own answers,
            those that it may write.
        seconds: Wall clock of this process, without what an interrupted attempt spent.
    """

    tokens: int
    seconds: float


def fit(
    drafter: TrainableDrafter,
    aligner: Aligner,
    answers: Sequence[StoredAnswer],
    target: Target,
    config: AlignConfig,
    tokens: int,
    learning_rate: float,
    seed: int,
    folder: Path,
    show_progress: bool = False,
) -> AlignmentReport:
    """Align a drafter; an interrupted run in the same folder is continued.

    Args:
        drafter: Trained in place, in float32.
        aligner: Says what trains and against which loss.
        answers: The target's answers; without a stored signal the target scores them meanwhile.
        target: The target, which stays as it is.
        config: Batch size, schedule and Lightning trainer settings.
        tokens: Answer tokens to train on, repeats counted.
        learning_rate: Peak rate.
        seed: Source of order and initialisation.
        folder: Checkpoints and the CSV log.
        show_progress: Show Lightning's progress bar.

    Returns:
        The report.
    """
    started = time.monotonic()
    with _own_randomness(seed), quiet_lightning():
        drafter.module.float().train()
        data = AlignmentData(answers, target.head, config.batch_tokens, tokens, seed)
        # Processes of their own get a copy of the target, so it goes only where it is asked.
        asked = writes_itself(aligner, len(data.plan)) or not all(map(has_signal, answers))
        module = AlignmentModule(
            drafter,
            aligner,
            learning_rate,
            config.warmup,
            config.weight_decay,
            seed,
            OnlineTeacher(target) if asked else None,
        )
        checkpoint = ModelCheckpoint(
            dirpath=folder / "checkpoints",
            every_n_train_steps=max(10, len(data.plan) // _CHECKPOINTS),
            save_top_k=0,
            save_last=True,
        )
        callbacks: list[Callback] = [checkpoint]
        if show_progress:
            callbacks.append(RichProgressBar(leave=False))
        settings = config.trainer
        trainer = Trainer(
            accelerator=settings.accelerator,
            devices=int(settings.devices) if settings.devices.isdigit() else settings.devices,
            strategy=_strategy(settings),
            precision=settings.precision,  # type: ignore[arg-type]
            accumulate_grad_batches=settings.accumulate_grad_batches,
            gradient_clip_val=settings.gradient_clip_val,
            max_epochs=1,
            callbacks=callbacks,
            logger=CSVLogger(folder, name="", version="log"),
            log_every_n_steps=max(1, min(5, len(data.plan) // 20)),
            enable_progress_bar=show_progress,
            enable_model_summary=False,
        )
        last = folder / "checkpoints" / "last.ckpt"
        try:
            trainer.fit(module, data, ckpt_path=str(last) if last.is_file() else None)
        except SystemExit:
            # Lightning turns Ctrl-C into an exit of its own; the caller's handling decides.
            raise KeyboardInterrupt from None
        drafter.module.eval()
    return AlignmentReport(data.trained_tokens, time.monotonic() - started)


def _strategy(settings: TrainerConfig) -> str:
    """Lightning's own choice for several devices would start the whole command once for each."""
    if settings.strategy != "auto" or settings.devices == "1" or settings.accelerator == "mps":
        return settings.strategy
    several = torch.cuda.device_count() > 1 if settings.devices == "auto" else True
    return "ddp_spawn" if several else "auto"


@contextmanager
def _own_randomness(seed: int) -> Iterator[None]:
    """Seed torch for the block; the caller's generator is left as it was."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield
