"""The option of all commands that answer with a bundle: where its target is."""

from __future__ import annotations

from typing import Annotated

import typer

TargetOption = Annotated[
    str | None,
    typer.Option("--target", help="Where to take the target from; must be the same weights."),
]
