"""Where a recipe's prompts are."""

from __future__ import annotations

import hashlib
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from taskspec.errors import CorpusError
from taskspec.recipe.lookup import PACKAGE

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

_PREFIX = "package:"


def resolve_corpus(path: str, folder: Path | None) -> Traversable:
    """The file of a corpus path.

    Args:
        path: `package:FILE` for prompts shipped with the recipes; else a path, looked for from
            the recipe's folder and then from the working directory.
        folder: The recipe's folder; None for a recipe that lies in none.

    Raises:
        CorpusError: When there is no such file.
    """
    if path.startswith(_PREFIX):
        file = resources.files(PACKAGE).joinpath(path.removeprefix(_PREFIX))
        if file.is_file():
            return file
        raise CorpusError(f"no prompts named {path} are shipped with the recipes")
    places = [Path(path)] if folder is None else [folder / path, Path(path)]
    places = list(dict.fromkeys(places))
    for place in places:
        if place.is_file():
            return place
    raise CorpusError(f"no file {path} (looked for {' and '.join(map(str, places))})")


def absolute_corpus(path: str, folder: Path | None) -> str:
    """A path that leads to the same prompts from anywhere; arguments are as in `resolve_corpus`."""
    if path.startswith(_PREFIX):
        return path
    return str(Path(str(resolve_corpus(path, folder))).resolve())


def corpus_digest(file: Traversable) -> str:
    """SHA-256 of the corpus file."""
    return hashlib.sha256(file.read_bytes()).hexdigest()
