"""What all comparisons have in common: a folder to go on from, and their facts."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from taskspec.errors import ArtifactError
from taskspec.evaluation.comparison import Comparison, from_json, to_json
from taskspec.evaluation.matrix import Matrix, Timing
from taskspec.evaluation.table import ResultRow
from taskspec.pipeline.artifacts import (
    DONE,
    check_files,
    digest,
    finished,
    read_done,
    working_folder,
    write_atomically,
)
from taskspec.pipeline.timing import PLAIN, TimedPrompt

RESULTS, TIMINGS = "results.json", "timings.jsonl"
_ALL_TIMINGS = "timings*.jsonl"
_ANSWERED = "prefixes kept"
"""How the engine answers, where that counts: timings of another way are not gone on with."""


def check_place(folder: Path | None) -> None:
    """Make sure that a comparison may be kept in a folder, whose content it replaces.

    Args:
        folder: Not there, empty, or of an earlier comparison; None keeps none.

    Raises:
        ArtifactError: When it holds something else.
    """
    if folder is None:
        return
    if not folder.name:
        raise ArtifactError(f"{folder} cannot be replaced by a comparison; name another folder")
    if folder.exists() and not (folder.is_dir() and _may_be_replaced(folder)):
        raise ArtifactError(f"{folder} holds something else; name another folder")


def _may_be_replaced(folder: Path) -> bool:
    """Whether a folder is empty, or a finished comparison's and holds nothing else."""
    if not any(folder.iterdir()):
        return True
    if read_done(folder) is None:
        return False
    own = (DONE, RESULTS, _ALL_TIMINGS)
    return all(any(fnmatch(each.name, name) for name in own) for each in folder.iterdir())


def kept(folder: Path | None, identity: Any, measure: Callable[[Path], Comparison]) -> Comparison:
    """Measure in a folder, go on where that was interrupted, or read what was found there.

    Args:
        folder: Where results are kept; None keeps none.
        identity: JSON-serialisable: all that the result depends on.
        measure: Measures in a folder that may hold timings of an interrupted attempt.

    Raises:
        ArtifactError: When the folder holds something else.
    """
    check_place(folder)
    if folder is None:
        with tempfile.TemporaryDirectory() as scratch:
            return measure(Path(scratch))
    fingerprint = digest([_ANSWERED, identity])
    done = finished(folder, fingerprint)
    if done is None:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with working_folder(folder, fingerprint) as work:
            write_atomically(work / RESULTS, to_json(measure(work)))
        done = read_done(folder)
        assert done is not None
    check_files(folder, done)
    return from_json((folder / RESULTS).read_text(encoding="utf-8"))


def compare(
    timings: Sequence[Timing],
    prompts: Sequence[TimedPrompt],
    rows: Callable[[Sequence[Timing], dict[str, str]], Sequence[ResultRow]],
    notes: Sequence[str],
    environment: dict[str, Any],
    regret: float | None = None,
) -> Comparison:
    """The rows over all prompts, and over those whose plain answers do not loop.

    Args:
        timings: Of every method on every prompt.
        prompts: What was answered.
        rows: Makes rows of timings, given each prompt's task.
        notes: For the reader.
        environment: Where and with what it was measured.
        regret: Speed regret, where there is an oracle.
    """
    tasks = {prompt.request.id: prompt.row for prompt in prompts}
    loops = {each.prompt for each in timings if each.method == PLAIN and each.looping}
    calm = {name: task for name, task in tasks.items() if name not in loops}
    steady = [timing for timing in timings if timing.prompt in calm]
    return Comparison(
        rows=tuple(rows(timings, tasks)),
        steady=tuple(rows(steady, calm)) if calm else (),
        looping=len(loops) / len(tasks),
        notes=tuple(notes),
        prompts=tuple(tasks),
        prompt_hash=prompt_hash(prompts),
        speed_regret=regret,
        environment=environment,
    )


def compare_beside(
    timings: Sequence[Timing],
    prompts: Sequence[TimedPrompt],
    methods: Sequence[str],
    other: str,
    resamples: int,
    notes: Sequence[str],
    environment: dict[str, Any],
) -> Comparison:
    """Methods over plain decoding, and beside another one of them.

    Args:
        timings: Of every method on every prompt.
        prompts: What was answered.
        methods: In the order of the table.
        other: The method that the others are held against, too.
        resamples: Bootstrap resamples.
        notes: For the reader.
        environment: Where and with what it was measured.
    """

    def rows(chosen: Sequence[Timing], tasks: Mapping[str, str]) -> list[ResultRow]:
        matrix = Matrix(chosen, tasks, resamples)
        return [row for method in methods for row in matrix.rows(method, {})]

    found = compare(timings, prompts, rows, notes, environment)
    matrix = Matrix(timings, {each.request.id: each.row for each in prompts}, resamples)
    others = [method for method in methods if method != other]
    beside = [row for method in others for row in matrix.rows(method, {}, other)]
    return replace(found, beside=tuple(beside), beside_method=other)


def made_by(stages: Mapping[str, Path]) -> dict[str, str]:
    """Identities of what finished stages made, by name."""
    marks = {name: read_done(folder) for name, folder in stages.items()}
    return {name: done.result for name, done in marks.items() if done is not None}


def prompt_hash(prompts: Sequence[TimedPrompt]) -> str:
    """SHA-256 of the prompts' ids and token ids."""
    return digest([[each.request.id, each.request.prompt] for each in prompts])
