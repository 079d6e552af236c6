"""Where training curves go."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from lightning.pytorch.loggers import CSVLogger, Logger

from taskspec.errors import ModelError

_PACKAGES = {
    "csv": (),
    "tensorboard": ("tensorboard", "tensorboardX"),
    "wandb": ("wandb",),
    "mlflow": ("mlflow",),
}


def check_loggers(names: Sequence[str]) -> None:
    """Make sure that the loggers that a recipe names are there.

    Raises:
        ModelError: When a logger's package is not installed.
    """
    for name in names:
        if _PACKAGES[name] and not any(map(find_spec, _PACKAGES[name])):
            raise ModelError(
                f"align.loggers: {name} is not installed; "
                f"run: pip install 'taskspec-decoding[{name}]'"
            )


def make_loggers(names: Sequence[str], folder: Path, title: str) -> list[Logger]:
    """Lightning's loggers by the names that a recipe writes.

    Args:
        names: `csv`, `tensorboard`, `wandb`, `mlflow`.
        folder: Of this training; logs on disk lie beneath it.
        title: Name of this training, where a logger shows several together.

    Raises:
        ModelError: When a logger's package is not installed.
    """
    check_loggers(names)
    return [_make(name, folder, title) for name in names]


def _make(name: str, folder: Path, title: str) -> Logger:
    if name == "tensorboard":
        from lightning.pytorch.loggers import TensorBoardLogger

        return TensorBoardLogger(folder, name="", version="tensorboard")
    if name == "wandb":
        from lightning.pytorch.loggers import WandbLogger

        return WandbLogger(name=title, project="taskspec", save_dir=folder)
    if name == "mlflow":
        from lightning.pytorch.loggers import MLFlowLogger

        return MLFlowLogger(experiment_name="taskspec", run_name=title)
    return CSVLogger(folder, name="", version="log")
