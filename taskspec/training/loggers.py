"""Where training curves go."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import CSVLogger, Logger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter

from taskspec.errors import ModelError
from taskspec.files import replacing

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
    return _Curve(folder, name="", version="log")


class _Curve(CSVLogger):
    """Lightning's, which leaves the curve of a training that was cut off where it is."""

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The writer, in the first process."""
        if self._experiment is None:
            self._experiment = _CurveWriter(self.log_dir)
        return self._experiment


class _CurveWriter(ExperimentWriter):
    """Goes on with a curve: its rows stay, but for those of steps that are done again.

    A training that goes on logs what the one before it logged since the checkpoint, so the first
    step that it logs is the first one done again.
    """

    def __init__(self, log_dir: str) -> None:
        super().__init__(log_dir)
        self._goes_on = Path(self.metrics_file_path).is_file()

    def log_metrics(self, metrics_dict: Mapping[str, Any], step: int | None = None) -> None:
        """Note a row; before the first one, leave out the rows of its step and of later ones."""
        if self._goes_on and step is not None:
            self._goes_on = False
            self._keep_rows_before(step)
        super().log_metrics(dict(metrics_dict), step)

    def _keep_rows_before(self, step: int) -> None:
        path = Path(self.metrics_file_path)
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            # A row that a power cut broke off is one of those that come again.
            rows = [row for row in reader if (row.get("step") or "").isdigit()]
            self.metrics_keys = list(reader.fieldnames or ())
        with replacing(path) as place, place.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, self.metrics_keys)
            writer.writeheader()
            writer.writerows(row for row in rows if int(row["step"]) < step)

    def _check_log_dir_exists(self) -> None:
        """Lightning's deletes the curve that is there."""
