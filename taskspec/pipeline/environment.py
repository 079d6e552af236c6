"""Where a run happened: versions and machine, for provenance and results."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from taskspec.decoding.native.library import instructions
from taskspec.recipe.schema import Recipe
from taskspec.registry import Registry

_PACKAGES = ("taskspec-decoding", "torch", "transformers", "lightning", "peft", "scikit-learn")


def describe_environment(registry: Registry) -> dict[str, Any]:
    """Versions of what decides results, the processor, and the plugins' providers."""
    import torch

    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "kernels": instructions(),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "packages": {name: _version(name) for name in _PACKAGES},
        "plugins": sorted({f"{each.distribution} {each.version}" for each in registry.plugins()}),
    }


def describe_evaluation(recipe: Recipe, registry: Registry) -> dict[str, Any]:
    """The same, with what the recipe says of target, decoding and timing."""
    return {
        **describe_environment(registry),
        "target": recipe.target.model,
        "dtype": recipe.target.dtype,
        "temperature": recipe.decode.temperature,
        "seed": recipe.seed,
        "repeats": recipe.evaluate.repeats,
        "max_new_tokens": recipe.evaluate.max_new_tokens,
        "prompts_per_task": recipe.evaluate.prompts_per_task,
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    """The processor's marketing name where the system tells it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
