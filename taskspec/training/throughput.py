"""How fast a training is, and how much of the machine's arithmetic it uses."""

from __future__ import annotations

import time
from functools import lru_cache
from typing import Any

import torch
from lightning import Trainer
from lightning.pytorch.callbacks import Callback

from taskspec.training.batches import AlignmentBatch

_TRIES = 5


class Throughput(Callback):
    """Logs tokens per second and model FLOP utilisation (MFU) of this process.

    Tokens are those of prompts and answers, padding left out. The model's arithmetic is three
    times that of the draft's forward pass; its share is of the best
    matrix product measured on the same device in the same precision.
    """

    def __init__(self) -> None:
        self._tokens, self._seconds = 0, 0.0
        self._started: float | None = None

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: Any, batch: AlignmentBatch, batch_idx: int
    ) -> None:
        """Start the clock unless it runs."""
        if self._started is None:
            synchronize(pl_module.device)
            self._started = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: AlignmentBatch, batch_idx: int
    ) -> None:
        """Report where Lightning logs, and begin anew."""
        self._tokens += batch.real_tokens
        untyped: Any = trainer
        if (batch_idx + 1) % untyped.log_every_n_steps:
            return
        self._stop(pl_module)
        speed = self._tokens / self._seconds
        peak = matmul_peak(pl_module.device, compute_dtype(trainer.precision))
        values = {"tokens_per_second": speed, "mfu": speed * pl_module.flops_per_token / peak}
        pl_module.log_dict(values, batch_size=1)
        self._tokens, self._seconds = 0, 0.0
        # What comes between two batches, loading and saving, is on the next clock.
        self._started = time.perf_counter()

    def on_validation_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Held-out answers are not on the clock."""
        self._stop(pl_module)

    def _stop(self, pl_module: Any) -> None:
        if self._started is not None:
            # Only here, so that a GPU's queue never runs dry for the sake of the clock.
            synchronize(pl_module.device)
            self._seconds += time.perf_counter() - self._started
            self._started = None


@lru_cache
def matmul_peak(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations per second of the best of several large matrix products."""
    size = 8192 if device.type == "cuda" else 2048
    left, right = (torch.ones(size, size, device=device, dtype=dtype) for _ in range(2))
    seconds = []
    for _ in range(_TRIES + 1):
        started = time.perf_counter()
        left @ right
        synchronize(device)
        seconds.append(time.perf_counter() - started)
    return float(2 * size**3 / min(seconds[1:]))


def compute_dtype(precision: str) -> torch.dtype:
    """What a Lightning precision multiplies in."""
    if precision.startswith("bf16"):
        return torch.bfloat16
    return torch.float16 if precision.startswith("16") else torch.float32


def synchronize(device: torch.device) -> None:
    """Wait for a device's queue, so that a clock tells the truth."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
