"""Ending a training early, so that it can be continued: on SIGTERM, in all of its processes."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import active_children
from pathlib import Path
from typing import Any

from lightning import Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.utilities.exceptions import SIGTERMException

from taskspec.errors import Terminated

ENDED = "SIGTERM while training; what was trained is saved"
EXIT_CODE = 128 + signal.SIGTERM
"""Of a process of its own that ended because it was told to."""


class LastCheckpoint(Checkpoint):
    """Saves on the way, and when the training is told to end.

    Only after a whole step: a checkpoint has no gradients, and what was gathered of them for a step
    would be lost, while its batches counted as done. Where held-out answers are scored after that
    step, only after the scoring, which a training that goes on from there would leave out.

    Several processes end after the same batch, whichever of them was told to. Lightning broadcasts
    within the signal's handler; processes are told at different points of a step, so that broadcast
    meets another one's gradients, and both wait for ever (Lightning-AI/pytorch-lightning#20806).
    Here the handler notes the signal, and the processes agree at the end of each step.

    Args:
        path: Where to save, each time anew.
        every: Steps between two savings.
    """

    def __init__(self, path: Path, every: int) -> None:
        self._path, self._every = path, every
        self._batches = 0
        self._told = self._saved = self._ends = False

    def on_fit_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Take the place of Lightning's handler before it is installed."""

        def note(number: int, frame: Any) -> None:
            if not self._told and trainer.strategy.launcher is not None:
                trainer.strategy.launcher.kill(number)  # passes it on to scripts it started
            self._told = True

        connector: Any = trainer._signal_connector
        connector._sigterm_notifier_fn = note

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        """End here, where what belongs to the batches before has been logged."""
        if self._ends:
            raise SIGTERMException(EXIT_CODE)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save where it is time to, unless held-out answers are scored first."""
        self._batches = batch_idx + 1
        untyped: Any = trainer
        scored = sum(untyped.num_val_batches) and self._batches % untyped.val_check_batch == 0
        if not scored:
            self._between_batches(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Save where it is time to."""
        self._between_batches(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Save what was too short to be saved on the way; end if told to since the last step."""
        if not self._saved:
            self._save(trainer)
        if self._any_told(trainer):
            raise SIGTERMException(EXIT_CODE)

    def _between_batches(self, trainer: Trainer) -> None:
        # A training that is over need not be continued.
        last = trainer.should_stop or self._batches == trainer.num_training_batches
        if last or self._batches % trainer.accumulate_grad_batches:
            return
        self._ends = self._any_told(trainer)
        if self._ends or trainer.global_step % self._every == 0:
            self._save(trainer)

    def _any_told(self, trainer: Trainer) -> bool:
        return bool(trainer.strategy.reduce_boolean_decision(self._told, all=False))

    def _save(self, trainer: Trainer) -> None:
        trainer.save_checkpoint(self._path, weights_only=False)
        self._saved = True


@contextmanager
def sigterm_for_lightning() -> Iterator[None]:
    """Let Lightning end a step and save when it is told to end; the handler before comes back.

    Lightning notes the signal where training runs; to processes of its own it must be passed on.
    """

    def pass_on(number: int, frame: Any) -> None:
        children = active_children()
        for child in children:
            child.terminate()
        for child in children:
            child.join()
        # Else Lightning's handler, which called this one, ends the training after the step.
        if signal.getsignal(signal.SIGTERM) is pass_on:
            raise Terminated(ENDED)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before: Any = signal.signal(signal.SIGTERM, pass_on)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
