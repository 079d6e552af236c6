"""Alignments side by side: each in a process of its own, on a device of its own."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import Queue, active_children, get_context
from pathlib import Path

import torch
from rich.console import Console

from taskspec.pipeline.context import RunContext
from taskspec.recipe.alignment import TrainerConfig
from taskspec.recipe.loading import LoadedRecipe
from taskspec.registry import default_registry


@dataclass(frozen=True)
class Place:
    """What a process needs to find a run and its part in it.

    Attributes:
        loaded: The recipe.
        run: The run's folder.
        stage_folders: Folders of the earlier stages, by name.
        work: Where the stage works.
    """

    loaded: LoadedRecipe
    run: Path
    stage_folders: dict[str, Path]
    work: Path


def device_total(settings: TrainerConfig) -> int:
    """Devices that jobs may be spread over."""
    if settings.devices.isdigit():
        return int(settings.devices)
    return max(1, torch.cuda.device_count())


def do_side_by_side(context: RunContext, work: Path, names: Sequence[str]) -> list[str]:
    """Do jobs by name, as many at a time as there are devices.

    Returns:
        One line per job, in their order.
    """
    devices = device_total(context.recipe.align.trainer)
    place = Place(context.loaded, context.folder, dict(context.stage_folders), work)
    processes = get_context("spawn")
    numbers: Queue[int] = processes.Queue()
    for number in range(devices):
        numbers.put(number)
    with ProcessPoolExecutor(
        devices, processes, initializer=_take_device, initargs=(numbers, devices)
    ) as pool:
        futures = [pool.submit(_do, place, name) for name in names]
        try:
            return [line for future in futures for line in future.result()]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for child in active_children():
                child.terminate()  # a training saves where it stands
            raise


def _take_device(numbers: Queue[int], devices: int) -> None:
    """Let this process see one device of its own, or its share of the processor."""
    number = numbers.get()
    if torch.cuda.device_count():
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        known = visible.split(",") if visible else [str(i) for i in range(devices)]
        os.environ["CUDA_VISIBLE_DEVICES"] = known[number]
    torch.set_num_threads(max(1, torch.get_num_threads() // devices))


def _do(place: Place, name: str) -> list[str]:
    from taskspec.pipeline.align import bring_job

    recipe = place.loaded.recipe
    alone = replace(recipe.align.trainer, devices="1", strategy="auto")
    align = replace(recipe.align, trainer=alone)
    loaded = replace(place.loaded, recipe=replace(recipe, align=align))
    console = Console(force_terminal=False)
    context = RunContext(loaded, default_registry(), place.run, console, place.stage_folders)
    return bring_job(context, place.work, name)
