"""Writing files whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from taskspec.errors import ArtifactError

PARTIAL = ".partial"


def check_output(path: Path, appended: bool = False) -> None:
    """Refuse a place where no file can be written, before the work whose result goes there.

    Args:
        path: The file.
        appended: Whether a file that is there is added to; otherwise another one replaces it.

    Raises:
        ArtifactError: Saying what to do.
    """
    if not path.parent.is_dir():
        raise ArtifactError(
            f"{path} cannot be written: {path.parent} is no folder; make it, or name another file"
        )
    if path.exists() and not path.is_file():
        raise ArtifactError(f"{path} cannot be written: it is no file; name another one")
    if appended and path.exists():
        if not os.access(path, os.R_OK | os.W_OK):
            raise ArtifactError(
                f"{path} cannot be written: you may not read it and add to it; change its "
                "permissions, or name another file"
            )
    elif not os.access(path.parent, os.W_OK):
        raise ArtifactError(
            f"{path} cannot be written: {path.parent} lets you add no files; name another folder"
        )


def check_apart(places: Mapping[str, Path | None]) -> None:
    """Refuse one file for two purposes, one of which would damage what the other has there.

    Args:
        places: Files by purpose; None where there is none.

    Raises:
        ArtifactError: Naming both purposes.
    """
    purposes: dict[Path, str] = {}
    for purpose, path in places.items():
        if path is not None:
            first = purposes.setdefault(path.resolve(), purpose)
            if first != purpose:
                raise ArtifactError(
                    f"{path} is named for {first} and for {purpose}; name a file for each"
                )


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a place to write beside `path`, which it replaces at the end.

    A reader sees the old content or the new one, never a part; when the block fails, what was
    written so far is removed.
    """
    temporary = path.with_name(f".{path.name}{PARTIAL}")
    try:
        yield temporary
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
