"""Stages that cost nothing, for tests of how stages are run."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from taskspec.pipeline.context import RunContext
from taskspec.pipeline.runner import run_stages
from taskspec.pipeline.stage import Stage
from taskspec.recipe.loading import load_recipe
from taskspec.registry import Registry, default_registry


class Writes(Stage):
    """Writes the recipe's seed.

    Args:
        name: The stage's.
        then: What happens when it has written; it may fail.
        before: What happens before.
    """

    def __init__(
        self,
        name: str,
        then: Callable[[], None] = lambda: None,
        before: Callable[[], None] = lambda: None,
    ) -> None:
        self.name = name  # type: ignore[misc]
        self.then, self.before = then, before

    def settings(self, context: RunContext) -> Any:
        return {"seed": context.recipe.seed}

    def run(self, context: RunContext, folder: Path) -> str:
        self.before()
        (folder / "seed.txt").write_text(str(context.recipe.seed))
        self.then()
        return f"wrote {context.recipe.seed}"


def run_in(
    recipe: Path, stages: Sequence[Stage], *overrides: str, registry: Registry | None = None
) -> tuple[Path, str]:
    """Run stages in `runs` beside the recipe, unless told otherwise; the folder, what was said."""
    registry, output = registry or default_registry(), io.StringIO()
    settings = [f"runs={recipe.parent / 'runs'}", *overrides]
    loaded = load_recipe(str(recipe), settings, registry)
    context = run_stages(stages, loaded, registry, Console(file=output, width=200))
    return context.folder, output.getvalue()
