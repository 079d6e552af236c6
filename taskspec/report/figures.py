"""The geometry of the report's figures; the templates draw them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

_MAP_WIDTH, _MAP_HEIGHT, _MAP_MARGIN = 720.0, 420.0, 18.0


@dataclass(frozen=True)
class Axis:
    """A linear axis, drawn from 0 to 100.

    Attributes:
        low: Value at 0.
        high: Value at 100.
    """

    low: float
    high: float

    @classmethod
    def over(cls, values: Sequence[float]) -> Axis:
        """An axis that holds these values, with a little room; infinite ones end where it ends."""
        finite = [each for each in values if math.isfinite(each)]
        low, high = min(finite), max(finite)
        room = 0.06 * max(high - low, 0.1)
        return cls(low - room, high + room)

    def at(self, value: float) -> float:
        """Where a value lies."""
        return round(min(100 * (value - self.low) / (self.high - self.low), 100.0), 2)


def curve(points: Sequence[tuple[int, float]], most: float, width: float, height: float) -> str:
    """Points of an SVG polyline in a box whose bottom is 0, so that noise does not look like news.

    Args:
        points: Steps and values from 0 on, at least one.
        most: Value at the top.
        width: Of the box.
        height: Of the box.
    """
    first = min(step for step, _ in points)
    across = max(step for step, _ in points) - first or 1
    return " ".join(
        f"{width * (step - first) / across:.1f},{height * (1 - value / (most or 1.0)):.1f}"
        for step, value in points
    )


def map_place(place: tuple[float, float]) -> tuple[float, float]:
    """Where a prompt with coordinates from 0 to 1 is drawn."""
    x, y = place
    return (
        round(_MAP_MARGIN + x * (_MAP_WIDTH - 2 * _MAP_MARGIN), 1),
        round(_MAP_MARGIN + y * (_MAP_HEIGHT - 2 * _MAP_MARGIN), 1),
    )
