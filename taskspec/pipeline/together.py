"""Several processes on one run: the first one writes, the others train with it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from taskspec.pipeline.artifacts import (
    finished,
    read_done,
    take_over_piece,
    work_under_way,
    working_folder,
)
from taskspec.pipeline.context import RunContext
from taskspec.pipeline.stage import Stage

_PAUSE = 0.2
"""Seconds between two looks at what the first process has done."""

_T = TypeVar("_T")


def do_together(
    context: RunContext, result: Path, identity: str, do: Callable[[Path], str]
) -> list[str]:
    """Do a piece of a stage with all processes, unless it is done.

    The first process works in a folder that becomes `result`; the others work along, writing
    nothing, and return when the result is there. A piece that the stage had before, and that would
    be made the same, is taken over.

    Args:
        context: The run.
        result: Folder of the piece, within the stage's.
        identity: Fingerprint of the piece: all that it depends on.
        do: Works in a folder; one line for the user.

    Returns:
        The line; none when there was nothing to do, or nobody to tell.
    """
    if result.exists():
        return []
    if context.writes:
        if finished(result, identity):
            return []
        if take_over_piece(result, identity):
            return [f"{result.name}: as before"]
        with working_folder(result, identity) as work:
            return [do(work)]
    # A piece that needs no other process may be over before this one looks.
    found = _wait_for(lambda: work_under_way(result, identity) or _settled(result))
    if isinstance(found, Path):
        do(found)
        _wait_for(_settled, result)
    return []


def follow_stages(stages: Sequence[Stage], context: RunContext) -> None:
    """Take part in a run that another process leads, until the last stage done together."""
    last = max(index for index, stage in enumerate(stages) if stage.together)
    results: dict[str, str] = {}
    for number, stage in enumerate(stages[: last + 1], start=1):
        folder = context.folder / f"stages/{number:02d}-{stage.name}"
        context.stage_folders[stage.name] = folder
        fingerprint = stage.fingerprint(context, results)
        if stage.together:
            work = _wait_for(_at_work_or_done, folder, fingerprint)
            if work != folder:
                stage.run(context, work)
        results[stage.name] = _wait_for(_result, folder, fingerprint)


def _settled(result: Path) -> bool | None:
    """Whether a piece is there; a finished stage's folder moves, and its pieces with it."""
    return result.exists() or not result.parent.exists() or None


def _at_work_or_done(folder: Path, fingerprint: str) -> Path | None:
    if _result(folder, fingerprint) is not None:
        return folder
    return work_under_way(folder, fingerprint)


def _result(folder: Path, fingerprint: str) -> str | None:
    done = read_done(folder)
    return done.result if done is not None and done.fingerprint == fingerprint else None


def _wait_for(look: Callable[..., _T | None], *place: Any) -> _T:
    """What `look` finds at last; the launcher ends this process when the first one fails."""
    while (found := look(*place)) is None:
        time.sleep(_PAUSE)
    return found
