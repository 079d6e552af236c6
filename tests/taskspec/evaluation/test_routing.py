"""The router beside the truth."""

from __future__ import annotations

import pytest

from taskspec.evaluation.routing import (
    RoutedPrompt,
    calibration,
    calibration_error,
    confusion,
    from_json,
    to_json,
)

PROMPTS = [
    RoutedPrompt("1", "a", "x", True, 0.95),
    RoutedPrompt("2", "a", "x", False, 0.91),
    RoutedPrompt("3", "b", None, None, 0.2),
    RoutedPrompt("4", None, "y", None, 0.8),
]


def test_prompts_survive_their_file() -> None:
    assert from_json(to_json(PROMPTS)) == PROMPTS


def test_confusion_counts_known_tasks_and_the_fallback() -> None:
    found = confusion(PROMPTS, ("x", "y"))
    assert found is not None
    assert (found.tasks, found.routes) == (("a", "b"), ("x", "y", None))
    assert found.counts == ((2, 0, 0), (0, 0, 1))


def test_without_known_tasks_there_is_no_confusion() -> None:
    assert confusion(PROMPTS[3:], ("x", "y")) is None


def test_calibration_leaves_out_what_the_router_did_not_decide() -> None:
    (only,) = calibration(PROMPTS)
    assert (only.right, only.prompts) == (0.5, 2)
    assert only.probability == pytest.approx(0.93)
    assert calibration_error([only]) == pytest.approx(0.43)
    assert calibration_error([]) is None
