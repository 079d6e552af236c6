"""Ending a training early, so that it can be continued: on SIGTERM, in all of its processes."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import active_children
from typing import Any

from lightning import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities.exceptions import SIGTERMException

from taskspec.errors import Terminated

ENDED = "SIGTERM while training; what was trained is saved"
EXIT_CODE = 128 + signal.SIGTERM
"""Of a process of its own that ended because it was told to."""


class LastCheckpoint(ModelCheckpoint):
    """Saves on the way, and when the training is told to end.

    Other errors come in the middle of a step, whose batch would be counted as done.

    Several processes end after the same batch, whichever of them was told to. Lightning broadcasts
    within the signal's handler; processes are told at different points of a step, so that broadcast
    meets another one's gradients, and both wait for ever (Lightning-AI/pytorch-lightning#20806).
    Here the handler notes the signal, and the processes agree at the end of each batch.
    """

    _told = False
    _ended = False

    def on_fit_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Take the place of Lightning's handler before it is installed."""

        def note(number: int, frame: Any) -> None:
            if not self._told and trainer.strategy.launcher is not None:
                trainer.strategy.launcher.kill(number)  # passes it on to scripts it started
            self._told = True

        if trainer.world_size > 1:
            connector: Any = trainer._signal_connector
            connector._sigterm_notifier_fn = note

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save where it is time to, or where a process was told to end; then all of them end."""
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        if trainer.world_size > 1 and trainer.strategy.reduce_boolean_decision(
            self._told, all=False
        ):
            # The launcher of processes of its own calls no hook when they fail.
            end = SIGTERMException(EXIT_CODE)
            self.on_exception(trainer, pl_module, end)
            self._ended = True
            raise end

    def on_exception(self, trainer: Trainer, pl_module: Any, exception: BaseException) -> None:
        """Save between two batches."""
        if isinstance(exception, SIGTERMException) and not self._ended:
            super().on_exception(trainer, pl_module, exception)


@contextmanager
def sigterm_for_lightning() -> Iterator[None]:
    """Let Lightning end a batch and save when it is told to end; the handler before comes back.

    Lightning notes the signal where training runs; to processes of its own it must be passed on.
    """

    def pass_on(number: int, frame: Any) -> None:
        children = active_children()
        for child in children:
            child.terminate()
        for child in children:
            child.join()
        # Else Lightning's handler, which called this one, ends the training after the batch.
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
