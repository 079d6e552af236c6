"""Writing files whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PARTIAL = ".partial"


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
