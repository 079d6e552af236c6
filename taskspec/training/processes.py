"""The processes of one run, where `torchrun` or SLURM started several."""

from __future__ import annotations

import atexit
import functools
import time
from dataclasses import dataclass

_LET_GO = 0.2
"""Seconds that threads of a process group get to release their last tensors."""


@dataclass(frozen=True)
class Process:
    """One of the processes that run the same command.

    Attributes:
        rank: Its number among all of them; the one with 0 writes the run's folder.
        world: How many there are, on all machines.
        local: Its number among those of its machine, which is that of its GPU.
    """

    rank: int
    world: int
    local: int = 0

    @property
    def first(self) -> bool:
        """Whether it is the one that writes."""
        return self.rank == 0


def this_process() -> Process:
    """Which of the processes that `torchrun` or SLURM started this one is; else the only one."""
    from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
    from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment

    for environment in (TorchElasticEnvironment, SLURMEnvironment):
        if environment.detect():
            found = environment()
            return Process(found.global_rank(), found.world_size(), found.local_rank())
    return Process(0, 1)


@functools.cache
def part_at_exit() -> None:
    """Have the process group of a training closed before the interpreter is.

    Lightning does so for NCCL alone. A thread of gloo that releases a tensor while the interpreter
    ends aborts a process whose work is done (pytorch/pytorch#190489).
    """
    atexit.register(_part)


def _part() -> None:
    from torch import distributed

    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()
        # A device mesh outlives its group, and its threads with it; asleep, they can let go.
        time.sleep(_LET_GO)
