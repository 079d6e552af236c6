"""Runs the stages of a recipe in order, skipping those whose result stands."""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from taskspec.errors import ArtifactError
from taskspec.pipeline.artifacts import (
    check_files,
    finished,
    read_done,
    take_over,
    working_folder,
    write_atomically,
    write_json,
)
from taskspec.pipeline.context import RunContext
from taskspec.pipeline.environment import describe_environment
from taskspec.pipeline.memory import forget_peak
from taskspec.pipeline.run_folder import RECIPE, mark_finished
from taskspec.pipeline.stage import Stage
from taskspec.pipeline.together import follow_stages
from taskspec.recipe.loading import LoadedRecipe
from taskspec.registry import Registry
from taskspec.training.strategies import check_launch

SUMMARY = "summary.txt"


def run_stages(
    stages: Sequence[Stage],
    loaded: LoadedRecipe,
    registry: Registry,
    console: Console,
    others: Sequence[Path] = (),
) -> RunContext:
    """Bring a run's folder up to date with its recipe.

    Args:
        stages: The stages in order.
        loaded: The recipe.
        registry: The plugins.
        console: Where progress is shown.
        others: Folders of other runs; a stage that one of them has finished, and that would be
            made the same, is taken over.

    Returns:
        The run's context; its folder holds every stage's result.

    Raises:
        ArtifactError: When the folder cannot be written, is in use by another process, or a
            finished stage was altered.
        ModelError: When this machine cannot train as the recipe says.
    """
    check_launch(loaded.recipe.align)
    folder = Path(loaded.recipe.runs) / loaded.recipe.name
    context = RunContext(loaded, registry, folder, console)
    with _locked(folder):
        _use_threads(loaded)
        write_atomically(folder / RECIPE, loaded.text)
        environment = describe_environment(registry)
        write_json(folder / "provenance.json", {"argv": sys.argv, **environment})
        results: dict[str, str] = {}
        for number, stage in enumerate(stages, start=1):
            place = stage.place or f"stages/{number:02d}-{stage.name}"
            stage_folder = folder / place
            context.stage_folders[stage.name] = stage_folder
            fingerprint = stage.fingerprint(context, results)
            elsewhere = [other / place for other in others]
            results[stage.name] = _bring_up_to_date(
                stage, stage_folder, fingerprint, context, elsewhere
            )
        mark_finished(folder, results)
    return context


def _use_threads(loaded: LoadedRecipe) -> None:
    if loaded.recipe.threads is not None:
        import torch

        torch.set_num_threads(loaded.recipe.threads)


def _bring_up_to_date(
    stage: Stage,
    folder: Path,
    fingerprint: str,
    context: RunContext,
    elsewhere: Sequence[Path],
) -> str:
    """Run a stage if its result does not stand; the identity of what now lies in its folder."""
    console = context.console
    _tell(context, "taskspec_stage_started", stage=stage.name, folder=folder)
    done = finished(folder, fingerprint)
    skipped = done is not None
    if done is not None:
        check_files(folder, done)
        note = f"finished before, took {done.seconds:.0f} s"
    elif source := next((s for s in elsewhere if take_over(s, folder, fingerprint)), None):
        done, skipped = read_done(folder), True
        assert done is not None
        note = f"taken over from {source}, took {done.seconds:.0f} s"
    else:
        folder.parent.mkdir(exist_ok=True)
        console.print(f"[bold]{folder.name}[/bold]", highlight=False)
        forget_peak()
        with working_folder(folder, fingerprint, stage.salvages) as work:
            write_atomically(work / SUMMARY, stage.run(context, work) + "\n")
        done = read_done(folder)
        assert done is not None
        note = f"{done.seconds:.0f} s"
    summary = (folder / SUMMARY).read_text(encoding="utf-8").strip()
    line = f"[bold]{folder.name}[/bold] {escape(summary)} [dim]({note})[/dim]"
    console.print(line, highlight=False, soft_wrap=not console.is_terminal)
    _tell(context, "taskspec_stage_finished", stage=stage.name, folder=folder, skipped=skipped)
    return done.result


def _tell(context: RunContext, hook: str, **facts: Any) -> None:
    """Tell all observers; one that fails does not end the run, and is named once."""
    for observer, error in context.registry.tell(hook, **facts).items():
        if observer not in context.failed_observers:
            context.failed_observers.add(observer)
            context.console.print(
                f"warning: {hook} of {observer} failed ({type(error).__name__}: {error}); "
                "uninstall or update it. The run goes on",
                highlight=False,
                markup=False,
                soft_wrap=True,
            )


def follow_run(stages: Sequence[Stage], loaded: LoadedRecipe, registry: Registry) -> None:
    """Train along in a run that the first of several processes leads and writes.

    Returns when nothing is left that processes do together.

    Raises:
        ModelError: When this machine cannot train as the recipe says.
    """
    check_launch(loaded.recipe.align)
    folder = Path(loaded.recipe.runs) / loaded.recipe.name
    _use_threads(loaded)
    follow_stages(stages, RunContext(loaded, registry, folder, Console(quiet=True), writes=False))


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the run's folder, made if need be, against other processes.

    A folder made for a run that failed before it had any result is removed again.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / ".lock", os.O_CREAT | os.O_RDWR)
    except OSError as error:
        raise ArtifactError(
            f"cannot write the run folder {folder} ({error.strerror}); "
            "choose another place with runs=FOLDER"
        ) from None
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ArtifactError(
                f"{folder} is in use by another taskspec process; wait for it, "
                "or choose another name with name=NAME"
            ) from None
        try:
            yield
        except BaseException:
            if made and not any((folder / "stages").glob("*")):
                shutil.rmtree(folder)
                # Something else may lie there by now; the error that is raised says more.
                with suppress(OSError):
                    for parent in made[1:]:
                        parent.rmdir()
            raise
    finally:
        os.close(lock)
