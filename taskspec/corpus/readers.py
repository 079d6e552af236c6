"""Reading prompts from the formats people have."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from taskspec.corpus.examples import SPLITS, Example, Message
from taskspec.errors import CorpusError

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable
    from pathlib import Path

_SHOWN = 10
_SHAREGPT_ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant"}
_ROLES = ("system", "user", "assistant")


class _BadRow(ValueError):
    """What is wrong with one row."""


def read_examples(path: Path | Traversable) -> list[Example]:
    """Read prompts.

    A JSONL file (or a JSON array) of rows with `messages` (chat), `conversations` (ShareGPT),
    `turns` (Spec-Bench; the first turn) or `prompt`; `id`, `task` and `split` are optional. A
    conversation is cut after its last user turn.

    Raises:
        CorpusError: When the file is missing, empty or malformed: all problems at once, each with
            its line, up to ten.
    """
    examples: list[Example] = []
    problems: list[str] = []
    for line, row in _rows(path):
        where = f"{path}:{line}"
        try:
            examples.append(_example(row, f"row-{line:06d}"))
        except _BadRow as problem:
            problems.append(f"{where}: {problem}")
    counts = Counter(example.id for example in examples)
    problems += [f"{path}: id '{i}' stands {n} times" for i, n in counts.items() if n > 1]
    if problems:
        rest = len(problems) - _SHOWN
        more = f"\n... and {rest} more" if rest > 0 else ""
        raise CorpusError("\n".join(problems[:_SHOWN]) + more)
    if not examples:
        raise CorpusError(
            f"{path} holds no prompts; each line should be a JSON row with `messages`"
        )
    return examples


def _rows(path: Path | Traversable) -> Iterator[tuple[int, Any]]:
    """Line number and parsed row; a row that is no JSON is yielded as its error."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise CorpusError(f"{path} does not exist; check corpus.path") from None
    except UnicodeDecodeError as error:
        raise CorpusError(f"{path} is not UTF-8 text ({error.reason}); convert it") from None
    except OSError as error:
        raise CorpusError(f"{path} cannot be read: {error.strerror}") from None
    if text.lstrip().startswith("["):
        try:
            yield from enumerate(json.loads(text), start=1)
        except ValueError as error:
            raise CorpusError(f"{path} is not valid JSON: {error}") from None
        return
    for line, content in enumerate(text.split("\n"), start=1):
        if content.strip():
            try:
                yield line, json.loads(content)
            except ValueError as error:
                yield line, _BadRow(f"not valid JSON: {error}")


def _example(row: Any, fallback_id: str) -> Example:
    if isinstance(row, _BadRow):
        raise row
    if not isinstance(row, Mapping):
        raise _BadRow("expected a JSON object")
    split = row.get("split")
    if split is not None and split not in SPLITS:
        raise _BadRow(f"split '{split}' is none of {', '.join(SPLITS)}")
    messages = list(_messages(row))
    while messages and messages[-1].role != "user":
        messages.pop()
    if not messages or not any(each.content.strip() for each in messages if each.role == "user"):
        raise _BadRow("no user message with text")
    name = row.get("id", row.get("question_id", fallback_id))
    task = row.get("task", row.get("category"))
    return Example(str(name), tuple(messages), split, None if task is None else str(task))


def _messages(row: Mapping[str, Any]) -> Iterator[Message]:
    if "messages" in row:
        yield from (
            _turn(each, "role", "content", dict(zip(_ROLES, _ROLES, strict=True)))
            for each in _list(row, "messages")
        )
    elif "conversations" in row:
        roles = {"system": "system", **_SHAREGPT_ROLES}
        yield from (_turn(each, "from", "value", roles) for each in _list(row, "conversations"))
    elif "turns" in row:
        turns = _list(row, "turns")
        if not turns or not isinstance(turns[0], str):
            raise _BadRow("`turns` must list texts")
        yield Message("user", turns[0])
    elif isinstance(row.get("prompt"), str):
        yield Message("user", row["prompt"])
    else:
        raise _BadRow("expected `messages`, `conversations`, `turns` or `prompt`")


def _list(row: Mapping[str, Any], key: str) -> list[Any]:
    value = row[key]
    if not isinstance(value, list):
        raise _BadRow(f"`{key}` must be a list")
    return value


def _turn(turn: Any, role_key: str, text_key: str, roles: Mapping[str, str]) -> Message:
    if not isinstance(turn, Mapping) or not isinstance(turn.get(text_key), str):
        raise _BadRow(f"each turn needs `{role_key}` and a text in `{text_key}`")
    role = roles.get(str(turn.get(role_key)))
    if role is None:
        raise _BadRow(f"unknown {role_key} '{turn.get(role_key)}'; use {', '.join(roles)}")
    return Message(role, turn[text_key])
