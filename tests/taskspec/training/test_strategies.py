"""From trainer settings and started processes to a strategy, or to one clear message."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from lightning.pytorch.strategies import ModelParallelStrategy

from taskspec.errors import ModelError
from taskspec.recipe.alignment import AlignConfig, TrainerConfig
from taskspec.training.processes import Process, this_process
from taskspec.training.strategies import check_launch, choose_strategy, device_count

TORCHRUN = {"TORCHELASTIC_RUN_ID": "1", "RANK": "3", "LOCAL_RANK": "1", "GROUP_RANK": "1"}


def launch(loggers: Sequence[str] = ("csv",), **settings: Any) -> None:
    """Check a launch by these trainer settings."""
    trainer = TrainerConfig(**{"accelerator": "cpu", **settings})
    check_launch(AlignConfig(loggers=list(loggers), trainer=trainer))


@pytest.fixture(params=[1, 4])
def world(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    count: int = request.param
    if count > 1:
        for name, value in {**TORCHRUN, "WORLD_SIZE": str(count)}.items():
            monkeypatch.setenv(name, value)
    return count


def test_a_process_knows_its_place(world: int) -> None:
    assert this_process() == (Process(0, 1) if world == 1 else Process(3, 4, 1))
    assert this_process().first == (world == 1)


def test_a_slurm_task_knows_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    task = {"NTASKS": "16", "NTASKS_PER_NODE": "8", "PROCID": "13", "LOCALID": "5"}
    for name, value in {**task, "JOB_NAME": "align"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    assert this_process() == Process(13, 16, 5)


@pytest.mark.parametrize(
    ("devices", "strategy", "alone", "started"),
    [
        ("1", "auto", "auto", "ddp"),
        ("4", "auto", "ddp_spawn", "ddp"),
        ("4", "ddp_spawn", "ddp_spawn", "ddp_spawn"),
        ("4", "ddp", "ddp", "ddp"),
    ],
)
def test_started_processes_are_used(
    world: int, devices: str, strategy: str, alone: str, started: str
) -> None:
    settings = TrainerConfig(accelerator="cpu", devices=devices, strategy=strategy)
    assert choose_strategy(settings) == (alone if world == 1 else started)


def test_fsdp_is_lightnings_model_parallel_strategy() -> None:
    assert isinstance(choose_strategy(TrainerConfig(strategy="fsdp")), ModelParallelStrategy)


def test_devices_may_follow_the_processes(world: int) -> None:
    expected = "auto" if world == 1 else 2
    assert device_count(TrainerConfig(num_nodes=2)) == expected


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"devices": "2", "strategy": "ddp"}, "torchrun --nproc-per-node 2"),
        ({"devices": "2", "strategy": "fsdp"}, "torchrun --nproc-per-node 2"),
        ({"num_nodes": 2}, "torchrun --nproc-per-node N"),
    ],
)
def test_processes_that_nobody_started_are_asked_for(
    settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        launch(**settings)


def test_other_processes_than_the_recipe_says_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**TORCHRUN, "WORLD_SIZE": "4"}.items():
        monkeypatch.setenv(name, value)
    launch(devices="2", num_nodes=2)
    launch(strategy="fsdp")
    with pytest.raises(ModelError, match=r"4 processes were started, but .* is 8"):
        launch(devices="8")


@pytest.mark.parametrize("devices", ["1", "4", "auto"])
def test_what_one_process_can_do_needs_no_launcher(devices: str) -> None:
    launch(devices=devices)
    launch(devices="1", strategy="fsdp")


@pytest.fixture
def gpus(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """A machine with so many CUDA devices."""
    count: int = request.param
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    return count


@pytest.mark.parametrize("gpus", [0], indirect=True)
@pytest.mark.parametrize("accelerator", ["gpu", "cuda", "mps", "tpu"])
def test_an_accelerator_that_is_not_there_is_refused(gpus: int, accelerator: str) -> None:
    with pytest.raises(ModelError, match=f"accelerator {accelerator}: this machine has none"):
        launch(accelerator=accelerator)
    launch(accelerator="auto", devices="4")


@pytest.mark.parametrize("gpus", [2], indirect=True)
@pytest.mark.parametrize("accelerator", ["gpu", "cuda", "auto"])
def test_more_devices_than_there_are_are_refused(gpus: int, accelerator: str) -> None:
    for devices in ("1", "2", "auto"):
        launch(accelerator=accelerator, devices=devices)
    with pytest.raises(ModelError, match="on 8 devices of this machine, of which torch sees 2"):
        launch(accelerator=accelerator, devices="8")


@pytest.mark.parametrize("gpus", [2], indirect=True)
def test_more_processes_than_devices_are_refused(
    gpus: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**TORCHRUN, "WORLD_SIZE": "8"}.items():
        monkeypatch.setenv(name, value)
    launch(accelerator="gpu", num_nodes=4)
    with pytest.raises(ModelError, match="start no more processes"):
        launch(accelerator="gpu", num_nodes=2)


@pytest.mark.parametrize(
    ("module", "settings", "message"),
    [
        ("wandb", {"loggers": ["csv", "wandb"]}, r"pip install 'taskspec-decoding\[wandb\]'"),
        ("transformer_engine", {"precision": "transformer-engine"}, "pip install transformer-eng"),
    ],
)
def test_packages_are_looked_up_before_they_are_needed(
    module: str, settings: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ModelError, match=message):
        launch(**settings)


def test_jobs_that_start_processes_themselves_are_not_started_by_others(world: int) -> None:
    config = AlignConfig(jobs="side-by-side", trainer=TrainerConfig(accelerator="cpu"))
    if world == 1:
        check_launch(config)
        return
    with pytest.raises(ModelError, match="without torchrun .* set align.jobs to one-by-one"):
        check_launch(config)
