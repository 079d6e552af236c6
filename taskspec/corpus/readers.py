"""Reading prompts from the formats people have."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from taskspec.corpus.examples import Example
from taskspec.corpus.rows import BadRow, read_row
from taskspec.errors import CorpusError, listed

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable
    from pathlib import Path

_FORMATS = (
    'one JSON object a line, such as {"messages": [{"role": "user", "content": "..."}]} or '
    '{"prompt": "..."}'
)


def read_examples(path: Path | Traversable) -> list[Example]:
    """Read prompts.

    A JSONL file (or a JSON array) of rows with `messages` (chat), `conversations` (ShareGPT),
    `turns` (Spec-Bench; the first turn is the prompt) or `prompt`; `id`, `task` and `split` are
    optional. A conversation is cut after its last user turn. A prompt without an id is named by
    what it says, so that others before it do not change its name.

    Raises:
        CorpusError: When the file is missing, empty or malformed: all problems at once, each with
            its line, up to ten.
    """
    examples: list[Example] = []
    problems: list[str] = []
    first_places: dict[str, str] = {}
    unnamed: Counter[str] = Counter()
    for place, row in _rows(path):
        try:
            example = read_row(row)
        except BadRow as problem:
            problems.append(f"{place}: {problem}")
            continue
        if not example.id:
            example = _named(example, unnamed)
        first = first_places.setdefault(example.id, place)
        if first != place:
            problems.append(f"{place}: id '{example.id}' is taken by {first}; ids must differ")
        examples.append(example)
    if problems:
        raise CorpusError(listed(problems))
    if not examples:
        raise CorpusError(f"{path} holds no prompts; write {_FORMATS}")
    return examples


def _named(example: Example, unnamed: Counter[str]) -> Example:
    """Name a prompt by what it says, and those that say the same by their number among these."""
    digest = example.digest
    unnamed[digest] += 1
    repeat = f"-{unnamed[digest]}" if unnamed[digest] > 1 else ""
    return replace(example, id=f"prompt-{digest}{repeat}")


def _rows(path: Path | Traversable) -> Iterator[tuple[str, Any]]:
    """Place and parsed row; a line that is no JSON is given as its problem."""
    text = _text(path)
    if text.lstrip().startswith("["):
        try:
            rows = json.loads(text)
        except json.JSONDecodeError as error:
            raise CorpusError(f"{path}:{error.lineno}: not valid JSON: {error.msg}") from None
        for number, row in enumerate(rows, start=1):
            yield f"{path} row {number}", row
        return
    # Not splitlines: JSON texts may hold other line separators, such as U+2028.
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                row = BadRow(f"not valid JSON: {error.msg} (column {error.colno})")
            yield f"{path}:{number}", row


def _text(path: Path | Traversable) -> str:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise CorpusError(f"{path} does not exist; name a file with prompts") from None
    except OSError as error:
        raise CorpusError(f"{path} cannot be read: {error.strerror}; name another file") from None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise CorpusError(f"{path}:{line}: not UTF-8 text; save the file as UTF-8") from None
