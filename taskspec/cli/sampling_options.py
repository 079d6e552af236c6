"""Options of commands that draw: how answers are sampled, and from which seed."""

from __future__ import annotations

from typing import Annotated, Any

import typer

SEEDS: dict[str, Any] = {"min": 0, "max": 2**32 - 1}
"""What a `--seed` may be, as in recipes."""


def _checked(temperature: float | None) -> float | None:
    """Refuse at once what no answer can be sampled with.

    Raises:
        DecodingError: Saying what a temperature may be.
    """
    from taskspec.errors import DecodingError
    from taskspec.interfaces import Sampling

    if temperature is not None:
        try:
            Sampling(temperature)
        except ValueError as error:
            raise DecodingError(str(error)) from None
    return temperature


TemperatureOption = Annotated[
    float | None,
    typer.Option("--temperature", callback=_checked, help="0 is greedy; default: the recipe's."),
]
