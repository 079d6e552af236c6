"""From a recipe's trainer settings to Lightning's strategies."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

import torch
from lightning import Trainer
from lightning.pytorch.accelerators import XLAAccelerator
from lightning.pytorch.strategies import ModelParallelStrategy, Strategy

from taskspec.errors import ModelError
from taskspec.interfaces import TrainableDrafter
from taskspec.recipe.alignment import AlignConfig, TrainerConfig
from taskspec.training.loggers import check_loggers
from taskspec.training.processes import this_process


def check_launch(config: AlignConfig) -> None:
    """Refuse settings that this machine and the processes on it cannot train by.

    Raises:
        ModelError: Saying what is missing, and what to do.
    """
    _check_processes(config.trainer)
    if config.jobs == "side-by-side" and this_process().world > 1:
        raise ModelError(
            "align.jobs: side-by-side starts a process per device itself; run it without torchrun "
            "or SLURM's processes, or set align.jobs to one-by-one"
        )
    _check_devices(config.trainer)
    if config.trainer.precision.startswith("transformer") and not find_spec("transformer_engine"):
        raise ModelError(
            f"align.trainer.precision {config.trainer.precision} needs a package that is not "
            "installed; run: pip install transformer-engine, or set it to auto"
        )
    check_loggers(config.loggers)


def _check_processes(settings: TrainerConfig) -> None:
    """Refuse settings that need processes which nobody started, or other ones than were started."""
    world = this_process().world
    devices = int(settings.devices) if settings.devices.isdigit() else None
    several = settings.num_nodes > 1 or (devices or 1) > 1
    if world == 1 and several and (settings.num_nodes > 1 or settings.strategy in ("ddp", "fsdp")):
        raise ModelError(
            f"align.trainer.strategy {settings.strategy} on {settings.num_nodes} machine(s) with "
            f"{settings.devices} devices needs processes that are not there; start them with "
            f"torchrun --nproc-per-node {devices or 'N'} -m taskspec run RECIPE, or with SLURM "
            "(docs/training.md); several devices of one machine do without by strategy: auto"
        )
    if world > 1 and devices is not None and devices * settings.num_nodes != world:
        raise ModelError(
            f"{world} processes were started, but align.trainer.devices ({devices}) times "
            f"num_nodes ({settings.num_nodes}) is {devices * settings.num_nodes}; make them equal, "
            "or leave devices at auto"
        )


def _check_devices(settings: TrainerConfig) -> None:
    """Refuse more devices of this machine than there are."""
    wanted, seen = device_count(settings), _devices_seen(settings.accelerator)
    if seen == 0:
        raise ModelError(
            f"align.trainer.accelerator {settings.accelerator}: this machine has none that torch "
            "sees; set it to auto or cpu, or install a torch that is made for the device"
        )
    if seen is not None and isinstance(wanted, int) and wanted > seen:
        raise ModelError(
            f"alignment is to run on {wanted} devices of this machine, of which torch sees {seen}; "
            "set align.trainer.devices to no more, or start no more processes"
        )


def _devices_seen(accelerator: str) -> int | None:
    """Devices that Lightning finds by an accelerator's name; None for CPUs, which are shared."""
    mps, cuda = int(torch.backends.mps.is_available()), torch.cuda.device_count()
    tpu = XLAAccelerator.auto_device_count() if XLAAccelerator.is_available() else 0
    found = {"cpu": None, "cuda": cuda, "mps": mps, "tpu": tpu, "gpu": mps or cuda}
    return found.get(accelerator, tpu or mps or cuda or None)


def choose_strategy(settings: TrainerConfig) -> str | Strategy:
    """Lightning's strategy for these settings.

    Lightning's own choice for several devices would start the whole command once for each.
    """
    world = this_process().world
    if settings.strategy == "fsdp":
        return ModelParallelStrategy(
            data_parallel_size=world, tensor_parallel_size=1, save_distributed_checkpoint=False
        )
    if settings.strategy != "auto" or settings.accelerator == "mps":
        return settings.strategy
    if world > 1:
        return "ddp"
    several = torch.cuda.device_count() > 1 if settings.devices == "auto" else True
    return "ddp_spawn" if several and settings.devices != "1" else "auto"


def device_count(settings: TrainerConfig) -> int | str:
    """Devices of this machine to train on: as many as processes, where those were started."""
    if settings.devices.isdigit():
        return int(settings.devices)
    world = this_process().world
    return world // settings.num_nodes if world > 1 else settings.devices


@contextmanager
def unsharded(drafter: TrainableDrafter, trainer: Trainer) -> Iterator[None]:
    """Give a draft that the block shards its whole weights back, in the first process."""
    if not isinstance(trainer.strategy, ModelParallelStrategy):
        yield
        return
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    whole = copy.deepcopy(drafter.module)
    yield
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    state = get_model_state_dict(drafter.module, options=options)
    if trainer.is_global_zero:
        whole.load_state_dict(state)
    drafter.module = whole
