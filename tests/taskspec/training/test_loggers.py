"""The curve of a training that goes on begins where the first attempt began."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from taskspec.training.loggers import make_loggers


def log(folder: Path, *rows: tuple[int, dict[str, float]]) -> None:
    """What one attempt logs; it is killed then."""
    (logger,) = make_loggers(["csv"], folder, "a training")
    for step, metrics in rows:
        logger.log_metrics(metrics, step)
        logger.save()


def read(folder: Path) -> list[dict[str, str]]:
    with (folder / "log/metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("again", [0, 2, 3])
def test_steps_that_are_done_again_stand_there_once(tmp_path: Path, again: int) -> None:
    log(tmp_path, *((step, {"loss": 1.0}) for step in range(3)))
    log(tmp_path, *((step, {"loss": 2.0}) for step in range(again, 5)))
    expected = [(str(step), "1.0" if step < again else "2.0") for step in range(5)]
    assert [(row["step"], row["loss"]) for row in read(tmp_path)] == expected


def test_two_rows_of_a_step_stay_together(tmp_path: Path) -> None:
    log(tmp_path, (0, {"loss": 1.0}), (1, {"loss": 2.0}), (1, {"val_alpha": 0.5}))
    log(tmp_path, (1, {"loss": 3.0}), (1, {"val_alpha": 0.6}))
    found = [(row["loss"], row["val_alpha"]) for row in read(tmp_path)]
    assert found == [("1.0", ""), ("3.0", ""), ("", "0.6")]


def test_what_is_logged_for_the_first_time_gets_a_column(tmp_path: Path) -> None:
    log(tmp_path, (0, {"loss": 1.0}))
    log(tmp_path, (1, {"loss": 2.0, "mfu": 0.1}))
    found = [(row["step"], row["loss"], row["mfu"]) for row in read(tmp_path)]
    assert found == [("0", "1.0", ""), ("1", "2.0", "0.1")]


def test_an_attempt_that_logs_nothing_takes_nothing_away(tmp_path: Path) -> None:
    log(tmp_path, (0, {"loss": 1.0}))
    (logger,) = make_loggers(["csv"], tmp_path, "a training")
    assert logger.experiment is not None
    logger.finalize("failed")
    assert len(read(tmp_path)) == 1


def test_a_row_that_was_broken_off_is_left_out(tmp_path: Path) -> None:
    log(tmp_path, (0, {"loss": 1.0}), (1, {"loss": 2.0}))
    with (tmp_path / "log/metrics.csv").open("a") as file:
        file.write("3.")
    log(tmp_path, (2, {"loss": 4.0}))
    assert [row["loss"] for row in read(tmp_path)] == ["1.0", "2.0", "4.0"]
