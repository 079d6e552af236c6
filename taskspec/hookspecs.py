"""Hook specifications: how a distribution adds plugins, recipes and observers.

A distribution declares an entry point in the group `taskspec` that names a module, and in that
module implements any of these hooks with `@taskspec.hookspecs.hookimpl`. Built-in plugins come
in by the same way.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

    from taskspec.interfaces import Aligner, Drafter, Encoder, Partitioner, Router, Verifier

PROJECT = "taskspec"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def taskspec_encoders() -> Iterable[type[Encoder]]:
    """Encoder classes this distribution offers."""
    raise NotImplementedError


@hookspec
def taskspec_partitioners() -> Iterable[type[Partitioner]]:
    """Partitioner classes this distribution offers."""
    raise NotImplementedError


@hookspec
def taskspec_drafters() -> Iterable[type[Drafter]]:
    """Drafter classes this distribution offers."""
    raise NotImplementedError


@hookspec
def taskspec_aligners() -> Iterable[type[Aligner]]:
    """Aligner classes this distribution offers."""
    raise NotImplementedError


@hookspec
def taskspec_routers() -> Iterable[type[Router]]:
    """Router classes this distribution offers."""
    raise NotImplementedError


@hookspec
def taskspec_verifiers() -> Iterable[type[Verifier]]:
    """Verifier classes this distribution offers."""
    raise NotImplementedError


@hookspec
def taskspec_recipes() -> Iterable[Path | Traversable]:
    """Folders of recipes (`*.yaml`) this distribution ships."""
    raise NotImplementedError


@hookspec
def taskspec_stage_started(stage: str, folder: Path) -> None:
    """Called before a stage is made, or found finished and kept.

    Of several processes on one run, only the first one calls observers. They must not write into
    `folder`; one that fails is named in a warning, and the run goes on.
    """


@hookspec
def taskspec_stage_finished(stage: str, folder: Path, skipped: bool) -> None:
    """Called when a stage's artifact stands, whether made now or kept (`skipped`).

    Of several processes on one run, only the first one calls observers. One that fails is named
    in a warning, and the run goes on.
    """
