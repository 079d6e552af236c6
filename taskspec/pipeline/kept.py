"""The run that another one extends: what is taken over from it, and its identity."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from taskspec.files import PARTIAL
from taskspec.pipeline.artifacts import check_files
from taskspec.pipeline.context import RunContext
from taskspec.pipeline.run_folder import RunFolder, open_run

STAGES = ("collect", "encode", "partition", "draft", "align", "assign", "route")
"""What a run must have finished to be extended."""


def kept_run(context: RunContext) -> RunFolder:
    """The run that the recipe extends.

    Raises:
        ArtifactError: When it is no run, or not finished up to its router.
    """
    assert context.recipe.extends is not None
    return open_run(Path(context.recipe.extends), list(STAGES), {})


def kept_results(context: RunContext, *stages: str) -> list[str]:
    """Identities of what stages of that run made, for fingerprints."""
    run = kept_run(context)
    return [run.done[stage].result for stage in stages]


def copy_kept(
    run: RunFolder, stage: str, folder: Path, wanted: Callable[[str], bool] = lambda name: True
) -> None:
    """Copy what a stage of the extended run left, unless an interrupted attempt has.

    Each file or folder in the stage's is whole in the copy, or not there.

    Args:
        run: The extended run.
        stage: Its stage.
        folder: Where to.
        wanted: Says of a name in the stage's folder whether it is.

    Raises:
        ArtifactError: When something was altered since the stage finished.
    """
    places = _places([name for name in run.done[stage].files if wanted(name.partition("/")[0])])
    for place, names in places.items():
        if (folder / place).exists():
            continue
        check_files(run.stages[stage], run.done[stage], names)
        source, partial = run.stages[stage] / place, folder / f".{place}{PARTIAL}"
        if source.is_dir():
            shutil.rmtree(partial, ignore_errors=True)
            shutil.copytree(source, partial)
        else:
            shutil.copy(source, partial)
        os.replace(partial, folder / place)


def _places(names: Sequence[str]) -> dict[str, list[str]]:
    """Names of files by the first part of their path."""
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(name.partition("/")[0], []).append(name)
    return found
