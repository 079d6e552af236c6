"""What the stage makes of a partitioner's labels and names."""

from __future__ import annotations

import numpy as np
import pytest

from taskspec.errors import CorpusError, PluginError
from taskspec.pipeline.partition import _check_labels, distinct_names

TRAIN = np.array([True, True, True, False])


def test_names_have_no_spaces_and_no_two_are_alike() -> None:
    assert distinct_names(["write code", "write-code", "sql"]) == [
        "write-code",
        "write-code-2",
        "sql",
    ]


def test_names_of_tables_rows_are_left_to_them() -> None:
    assert distinct_names(["all", "all-2", "fallback"]) == ["all-2", "all-2-2", "fallback-2"]


@pytest.mark.parametrize(
    ("labels", "named", "missing"),
    [
        ([0, 2, 2, 0], 0, "task 1 of 3"),
        ([0, 0, 0, 1], 0, "task 1 of 2"),
        ([0, 1, 1, 0], 3, "task 2 of 3"),
    ],
)
def test_a_task_without_training_prompts_is_refused(
    labels: list[int], named: int, missing: str
) -> None:
    with pytest.raises(PluginError, match=f"'mine' put no training prompt into {missing}"):
        _check_labels(np.array(labels), TRAIN, named, "mine")


def test_tasks_that_all_have_some_pass() -> None:
    _check_labels(np.array([0, 1, -1, 1]), TRAIN, 2, "mine")


def test_validation_prompts_that_are_all_noise_are_refused() -> None:
    with pytest.raises(
        CorpusError, match="none of 1 validation prompts .* partition.noise to nearest"
    ):
        _check_labels(np.array([0, 1, 1, -1]), TRAIN, 2, "mine")
