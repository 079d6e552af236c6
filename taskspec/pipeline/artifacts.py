"""Stage folders: written whole or not at all, and checked when read again."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from taskspec.errors import ArtifactError
from taskspec.files import PARTIAL, replacing
from taskspec.pipeline.memory import PeakMemory, peak_memory

DONE = "done.json"
_MARKER, _CLOCK, _REPLACED, _LEFT = ".fingerprint", ".seconds", ".replaced", ".left"
# A kill may leave what a mark was being written to.
_MARKS = tuple(name for mark in (_MARKER, _CLOCK, DONE) for name in (mark, f".{mark}{PARTIAL}"))


def digest(value: Any) -> str:
    """SHA-256 of a JSON-serialisable value, independent of key order."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_atomically(path: Path, text: str) -> None:
    """Write a text file so that a reader sees the old content or the new one, never a part."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON, atomically."""
    write_atomically(path, json.dumps(value, indent=1) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON.

    Raises:
        ArtifactError: When the file is missing or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ArtifactError(f"{path} is missing; run the recipe again to make it") from None
    except ValueError as error:
        raise ArtifactError(
            f"{path} is damaged ({error}); remove its folder and run the recipe again"
        ) from None


@dataclass(frozen=True)
class Done:
    """The mark of a finished stage.

    Attributes:
        fingerprint: What the stage's result depends on.
        files: SHA-256 of every file, by path relative to the stage's folder.
        seconds: How long the stage worked, interruptions included.
        memory: The most that the attempt which finished it held; None in older runs.
    """

    fingerprint: str
    files: Mapping[str, str]
    seconds: float
    memory: PeakMemory | None = None

    @property
    def result(self) -> str:
        """Identity of what the stage made; measurements differ each time a stage is made."""
        return digest({"fingerprint": self.fingerprint, "files": dict(self.files)})


def read_done(folder: Path) -> Done | None:
    """The mark of a finished stage, or None."""
    path = folder / DONE
    if not path.is_file():
        return None
    value = read_json(path)
    memory = value.get("memory")
    return Done(
        value["fingerprint"],
        value["files"],
        value["seconds"],
        None if memory is None else PeakMemory(**memory),
    )


def check_files(folder: Path, done: Done, names: Iterable[str] | None = None) -> None:
    """Make sure a finished stage's files are what the stage wrote.

    Args:
        folder: The stage's folder.
        done: Its mark.
        names: Some of its files; None checks all.

    Raises:
        ArtifactError: Naming the first file that was altered or removed.
    """
    for name in done.files if names is None else names:
        path = folder / name
        if not path.is_file() or file_digest(path) != done.files[name]:
            raise ArtifactError(
                f"{path} was {'altered' if path.is_file() else 'removed'} after its stage "
                f"finished; remove {folder} to make that stage again"
            )


def _results(work: Path) -> list[Path]:
    """The files in a stage's working folder, without its own marks; pieces have theirs."""
    return [
        path
        for path in sorted(work.rglob("*"))
        if path.is_file() and not (path.parent == work and path.name in _MARKS)
    ]


def _work_of(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}{PARTIAL}")


def left_behind(folder: Path) -> Path:
    """Where an interrupted attempt of another fingerprint lies while the stage is made."""
    return folder.with_name(f".{folder.name}{_LEFT}")


def _put_in_place(work: Path, folder: Path) -> None:
    """Move a finished working folder to where it belongs.

    What lies there moves out of the way first, so that wherever this is interrupted there is the
    old folder, none, or the new one, and `finished` can go on.
    """
    replaced = work / _REPLACED
    if folder.exists():
        os.replace(folder, replaced)
    if replaced.exists():
        shutil.rmtree(replaced)
    for name in _MARKS:
        if name != DONE:
            (work / name).unlink(missing_ok=True)
    os.replace(work, folder)


def finished(folder: Path, fingerprint: str) -> Done | None:
    """The mark of a stage that is finished with this fingerprint, or None.

    One that was interrupted between its end and its place is put there. For the process that
    writes the folder; others read its mark with `read_done`.
    """
    done = read_done(folder)
    if done is not None and done.fingerprint == fingerprint:
        return done
    work = _work_of(folder)
    done = read_done(work)
    if done is None or done.fingerprint != fingerprint:
        return None
    _put_in_place(work, folder)
    return done


def work_under_way(folder: Path, fingerprint: str) -> Path | None:
    """Where another process works on a folder with this fingerprint; None when none does."""
    marker = _work_of(folder) / _MARKER
    try:
        return marker.parent if marker.read_text() == fingerprint else None
    except OSError:
        return None


def take_over(source: Path, folder: Path, fingerprint: str) -> bool:
    """Put another run's finished stage into a folder's place, if it is what would be made there.

    Its files are linked where the disk can, so that they take no room twice; whoever writes them
    replaces them, so neither run changes the other.

    Args:
        source: The other run's stage.
        folder: Where the stage belongs.
        fingerprint: What the result is to depend on.

    Returns:
        Whether it was taken.

    Raises:
        ArtifactError: When the other stage was altered.
    """
    done = read_done(source)
    if done is None or done.fingerprint != fingerprint:
        return False
    check_files(source, done)
    work = _work_of(folder)
    if work.exists():
        shutil.rmtree(work)
    shutil.copytree(source, work, ignore=_mark_in(source), copy_function=_link_or_copy)
    # The mark vouches for the rest, so it comes last.
    _link_or_copy(str(source / DONE), str(work / DONE))
    _put_in_place(work, folder)
    return True


def take_over_piece(piece: Path, fingerprint: str) -> bool:
    """Put a piece of the stage that is being made again into place, where it would be the same.

    It is of the finished stage, or of an attempt under another recipe that was interrupted since.

    Args:
        piece: Where it belongs, within the stage's working folder.
        fingerprint: What it is to depend on.

    Returns:
        Whether it was taken; not when it was altered.
    """
    stage = piece.parent.with_name(piece.parent.name.removeprefix(".").removesuffix(PARTIAL))
    for place in (stage, left_behind(stage)):
        with suppress(ArtifactError):
            if take_over(place / piece.name, piece, fingerprint):
                return True
    return False


def results_of(folders: Iterable[Path]) -> list[str]:
    """Identities of what finished stages or pieces made, for fingerprints; empty for none."""
    marks = [read_done(folder) for folder in folders]
    return ["" if done is None else done.result for done in marks]


def _mark_in(source: Path) -> Callable[[str, list[str]], list[str]]:
    """Has `copytree` leave out a stage's own mark; pieces keep theirs."""
    return lambda folder, _: [DONE] if folder == str(source) else []


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _is_of(work: Path, fingerprint: str) -> bool:
    marker = work / _MARKER
    return marker.is_file() and marker.read_text() == fingerprint


def _set_aside(work: Path, left: Path, fingerprint: str, salvage: bool) -> None:
    """Clear the way for an attempt; one that was set aside for another comes back for its own."""
    if not salvage:
        shutil.rmtree(work)
        return
    aside = left.with_name(f"{left.name}{PARTIAL}")
    os.replace(work, aside)
    if _is_of(left, fingerprint):
        os.replace(left, work)
    elif left.exists():
        shutil.rmtree(left)
    os.replace(aside, left)


@contextmanager
def working_folder(folder: Path, fingerprint: str, salvage: bool = False) -> Iterator[Path]:
    """Work on a stage: yields a folder beside `folder`, which takes its place at the end.

    What an interrupted attempt with the same fingerprint left there is kept, so that a stage
    can go on from its own partial results; another fingerprint's leavings are removed. On
    success every file's digest goes into the mark and the folder is moved into place. A failure
    that has nothing to go on from leaves nothing.

    Args:
        folder: Where the result belongs.
        fingerprint: What it depends on.
        salvage: Keep another fingerprint's leavings, at `left_behind`, until the result is there.
    """
    work, left = _work_of(folder), left_behind(folder)
    marker = work / _MARKER
    if work.exists() and not _is_of(work, fingerprint):
        _set_aside(work, left, fingerprint, salvage)
    work.mkdir(parents=True, exist_ok=True)
    # Nothing may vouch for a folder that is worked in.
    (work / DONE).unlink(missing_ok=True)
    clock = work / _CLOCK
    spent = float(clock.read_text()) if clock.is_file() else 0.0
    started = time.monotonic()
    try:
        write_atomically(marker, fingerprint)
        yield work
        seconds = spent + time.monotonic() - started
        # Gigabytes take minutes, in which the marker says whose they are.
        files = {path.relative_to(work).as_posix(): file_digest(path) for path in _results(work)}
        # Not among the files: what a stage held must not make its result another one.
        done = Done(fingerprint, files, round(seconds, 3), peak_memory())
        write_json(work / DONE, asdict(done))
    except BaseException:
        if _results(work):
            with suppress(OSError):
                write_atomically(clock, str(spent + time.monotonic() - started))
        else:
            shutil.rmtree(work)
        raise
    _put_in_place(work, folder)
    shutil.rmtree(left, ignore_errors=True)
