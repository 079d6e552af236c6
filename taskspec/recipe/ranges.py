"""Range checks of recipe values; each raises `ValueError` with the value's name."""

from __future__ import annotations

import math


def at_least(name: str, value: float, least: float) -> None:
    """Refuse numbers below `least`."""
    finite(name, value)
    if value < least:
        raise ValueError(f"{name} must be at least {least:g}, not {value:g}")


def positive(name: str, value: float) -> None:
    """Refuse numbers that are not above zero."""
    finite(name, value)
    if value <= 0:
        raise ValueError(f"{name} must be positive, not {value:g}")


def finite(name: str, value: float) -> None:
    """Refuse infinity and NaN."""
    if not math.isfinite(value):
        raise ValueError(f"{name} must be finite, not {value:g}")


def one_of(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Refuse what is not among `choices`."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, not '{value}'")
