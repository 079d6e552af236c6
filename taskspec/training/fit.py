"""Driving Lightning's Trainer for one alignment."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from lightning import Trainer
from lightning.pytorch.callbacks import (
    Callback,
    EarlyStopping,
    EMAWeightAveraging,
    ModelCheckpoint,
    RichProgressBar,
)
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch.multiprocessing.spawn import ProcessExitedException

from taskspec.corpus.answers import StoredAnswer
from taskspec.errors import Terminated
from taskspec.interfaces import Aligner, Target, TrainableDrafter
from taskspec.models.quiet import quiet_lightning
from taskspec.recipe.alignment import AlignConfig
from taskspec.training.batches import has_signal
from taskspec.training.data import AlignmentData
from taskspec.training.earlier import Earlier, load_trained
from taskspec.training.ending import (
    ENDED,
    EXIT_CODE,
    LastCheckpoint,
    sigterm_for_lightning,
)
from taskspec.training.loggers import make_loggers
from taskspec.training.module import BATCHES_DONE, HELD_OUT_ALPHA, AlignmentModule
from taskspec.training.on_policy import writes_itself
from taskspec.training.online_teacher import OnlineTeacher
from taskspec.training.packing import answer_tokens, padding_share
from taskspec.training.precision import choose_precision
from taskspec.training.processes import part_at_exit
from taskspec.training.schedule import Schedule
from taskspec.training.strategies import choose_strategy, device_count, unsharded
from taskspec.training.throughput import Throughput

_CHECKPOINTS = 10
_BEST = Path("checkpoints") / "best.ckpt"
_LAST = Path("checkpoints") / "last.ckpt"


@dataclass(frozen=True)
class AlignmentReport:
    """What a training run did.

    Attributes:
        tokens: Answer tokens trained on, by all processes and interrupted attempts, repeats
            counted; where the draft writes its own answers, those that it may write.
        seconds: Wall clock of this process, without what an interrupted attempt spent.
        padding: Share of token positions that were padding.
        held_out: What was last scored on held-out answers, by name; empty without any.
    """

    tokens: int
    seconds: float
    padding: float
    held_out: dict[str, float]


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
    held_out: Sequence[StoredAnswer] = (),
    title: str = "alignment",
    show_progress: bool = False,
    earlier: Earlier | None = None,
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
        folder: Checkpoints and logs.
        held_out: Answers that are scored meanwhile, and decide on early stopping.
        title: Name of this training for loggers that show several together.
        show_progress: Show Lightning's progress bar.
        earlier: An earlier training of the same draft on the same answers to go on from, with a
            schedule of rates of its own.

    Returns:
        The report.

    Raises:
        Terminated: When the process was told to end; what was trained is saved.
    """
    started = time.monotonic()
    with _own_randomness(seed), quiet_lightning(), sigterm_for_lightning():
        drafter.module.float().train()
        before = 0 if earlier is None else earlier.tokens
        data = AlignmentData(
            answers, held_out, target.head, config.batch_tokens, tokens, seed, before
        )
        # Processes of their own get a copy of the target, so it goes only where it is asked.
        stored = all(map(has_signal, [*answers, *held_out]))
        own_texts = writes_itself(aligner, len(data.plan))
        module = AlignmentModule(
            drafter,
            aligner,
            Schedule(learning_rate, config.warmup, config.weight_decay, config.loss_logits),
            seed,
            target.vocabulary_size,
            OnlineTeacher(target) if own_texts or not stored else None,
            weighs=not own_texts,
        )
        if earlier is not None:
            load_trained(drafter, earlier.weights)
        bars = [RichProgressBar(leave=False)] if show_progress else []
        trainer = _trainer(config, len(data.plan), bool(held_out), folder, title, bars)
        last = folder / _LAST
        with unsharded(drafter, trainer):
            _run(trainer, module, data, str(last) if last.exists() else None)
        if (folder / _BEST).exists():
            _load_weights(drafter, folder / _BEST)
        drafter.module.eval()
    scores = {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("val_")}
    seconds = time.monotonic() - started
    # A training whose last checkpoint was at its end has nothing left to count.
    batches = int(trainer.callback_metrics.get(BATCHES_DONE, len(data.plan)))
    done = data.done(batches, trainer.world_size)
    tokens = sum(answer_tokens(answers, rows) for rows in done)
    return AlignmentReport(tokens, seconds, padding_share(answers, done), scores)


def _run(trainer: Trainer, module: AlignmentModule, data: AlignmentData, last: str | None) -> None:
    part_at_exit()
    try:
        trainer.fit(module, data, ckpt_path=last)
    except SIGTERMException:
        raise Terminated(ENDED) from None
    except ProcessExitedException as error:
        if error.exit_code != EXIT_CODE:
            raise
        raise Terminated(ENDED) from None
    except SystemExit:
        # Lightning turns Ctrl-C into an exit of its own; the caller's handling decides.
        raise KeyboardInterrupt from None


def _load_weights(drafter: TrainableDrafter, checkpoint: Path) -> None:
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    own = {name.removeprefix("lesson.draft."): value for name, value in state.items()}
    drafter.module.load_state_dict(own, strict=False)


def _trainer(
    config: AlignConfig,
    batches: int,
    scored: bool,
    folder: Path,
    title: str,
    bars: Sequence[Callback],
) -> Trainer:
    """Lightning's Trainer, which keeps the best weights when they are wanted."""
    settings = config.trainer
    callbacks: list[Callback] = [Throughput(), *bars]
    if config.ema:
        callbacks.append(EMAWeightAveraging(decay=config.ema))
    if config.early_stopping and scored:
        best = ModelCheckpoint(
            dirpath=(folder / _BEST).parent,
            filename=_BEST.stem,
            enable_version_counter=False,
            monitor=HELD_OUT_ALPHA,
            mode="max",
            # The averaged weights stand in checkpoints that hold all, and in no others.
            save_weights_only=not config.ema,
        )
        stop = EarlyStopping(HELD_OUT_ALPHA, mode="max", patience=config.early_stopping)
        callbacks += [stop, best]
    # After the others, so that what they know of a scoring is saved with it.
    callbacks.append(LastCheckpoint(folder / _LAST, max(10, batches // _CHECKPOINTS)))
    return Trainer(
        accelerator=settings.accelerator,
        devices=device_count(settings),
        num_nodes=settings.num_nodes,
        strategy=choose_strategy(settings),
        precision=choose_precision(settings.precision, settings.accelerator),  # type: ignore[arg-type]
        accumulate_grad_batches=settings.accumulate_grad_batches,
        gradient_clip_val=settings.gradient_clip_val,
        val_check_interval=settings.val_check_interval,
        num_sanity_val_steps=0,
        max_epochs=1,
        callbacks=callbacks,
        logger=make_loggers(config.loggers, folder, title),
        log_every_n_steps=max(1, min(5, batches // 20)),
        enable_progress_bar=bool(bars),
        enable_model_summary=False,
    )


@contextmanager
def _own_randomness(seed: int) -> Iterator[None]:
    """Seed torch for the block; the caller's generator is left as it was."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield
