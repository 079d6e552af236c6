"""Where a report says that prompts went."""

from __future__ import annotations

from typing import Any, cast

import pytest

from taskspec.evaluation.routing import RoutedPrompt, to_json
from taskspec.pipeline.partition import Tasks
from taskspec.pipeline.routing_facts import routing_shown

LIKELIEST = [
    RoutedPrompt("1", "sort", "sort", True, 0.9),
    RoutedPrompt("2", "sort", "mail", False, 0.4),
    RoutedPrompt("3", "mail", "mail", True, 0.6),
]


class Run:
    """A run whose route stage wrote the likeliest task of three validation prompts."""

    def text(self, stage: str, name: str) -> str:
        return to_json(LIKELIEST)


@pytest.mark.parametrize(
    ("threshold", "counts", "decided"),
    [
        (0.0, ((1, 1), (0, 1)), 3),
        (0.5, ((1, 0, 1), (0, 1, 0)), 2),
        (1.0, ((0, 0, 2), (0, 0, 1)), 0),
    ],
)
def test_what_the_threshold_leaves_to_the_fallback_is_counted_there(
    threshold: float, counts: tuple[tuple[int, ...], ...], decided: int
) -> None:
    run, found = cast(Any, Run()), Tasks(("sort", "mail"), {})
    shown = routing_shown(run, [], found, None, threshold)
    assert shown is not None and shown.confusion.counts == counts
    assert sum(each.prompts for each in shown.calibration) == decided
