"""Which prompts trained or chose a bundle's drafts, without their texts."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from taskspec.errors import ArtifactError

if TYPE_CHECKING:
    from taskspec.corpus.examples import Example

SEEN = "seen.json"
NOT_SAID = (
    "the bundle is older than the list of prompts that trained it, so some of these may be among "
    "them; run its recipe again to have it"
)


def prompt_keys(examples: Iterable[Example]) -> frozenset[str]:
    """The keys of several prompts."""
    return frozenset(each.key for each in examples)


def write_seen(folder: Path, keys: Iterable[str]) -> None:
    """Write `seen.json` into a bundle's folder."""
    (folder / SEEN).write_text(json.dumps(sorted(keys)) + "\n", encoding="utf-8")


def load_seen(folder: Path) -> frozenset[str] | None:
    """The keys that `write_seen` wrote; None for a bundle of an earlier version.

    Raises:
        ArtifactError: When the file is damaged.
    """
    path = folder / SEEN
    if not path.is_file():
        return None
    try:
        return frozenset(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError):
        raise ArtifactError(f"{path} is damaged; run the bundle's recipe again") from None


def leave_out_seen(
    examples: list[Example], seen: frozenset[str] | None
) -> tuple[list[Example], list[str]]:
    """The prompts that trained and chose nothing, and what to say of the others.

    Args:
        examples: Prompts to answer.
        seen: Keys of those that took part in training; None when that is not known.
    """
    if seen is None:
        return examples, [NOT_SAID]
    fresh = [each for each in examples if each.key not in seen]
    gone = len(examples) - len(fresh)
    return fresh, [f"{gone} prompts took part in training and are left out"] if gone else []
