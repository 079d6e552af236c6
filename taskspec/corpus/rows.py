"""One row of a prompt file, in any of the formats people have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from taskspec.corpus.examples import ALL_TASKS, SPLITS, Example, Message

_CHAT_ROLES = {role: role for role in ("system", "user", "assistant")}
_SHAREGPT_ROLES = {"human": "user", "gpt": "assistant", "chatgpt": "assistant", **_CHAT_ROLES}


class BadRow(ValueError):
    """What is wrong with one row, and what would be right."""


def read_row(row: Any) -> Example:
    """A row's prompt; its id is empty where the row has none.

    Args:
        row: The parsed JSON, or the BadRow that parsing ended in.

    Raises:
        BadRow: When it holds no prompt.
    """
    if isinstance(row, BadRow):
        raise row
    if not isinstance(row, Mapping):
        raise BadRow("expected a JSON object")
    split = row.get("split")
    if split is not None and split not in SPLITS:
        raise BadRow(f"split {split!r} is none of {', '.join(SPLITS)}")
    messages = list(_messages(row))
    while messages and messages[-1].role != "user":
        messages.pop()
    if not messages:
        raise BadRow("no user message; the prompt is what the user says last")
    if not messages[-1].content.strip():
        raise BadRow("the last user message is empty")
    name = _label(row, "id") or _label(row, "question_id") or ""
    task = _label(row, "task") or _label(row, "category")
    if task == ALL_TASKS:
        raise BadRow(f"task '{ALL_TASKS}' names the row over all tasks; call it otherwise")
    later = tuple(row["turns"][1:]) if _is_spec_bench(row) else ()
    example = Example(name, tuple(messages), split, task, later)
    try:
        "".join([name, task or "", *(each.content for each in messages), *later]).encode()
    except UnicodeEncodeError:
        raise BadRow("half of a surrogate pair (\\ud800 to \\udfff) stands alone") from None
    return example


def _messages(row: Mapping[str, Any]) -> Iterator[Message]:
    if "messages" in row:
        yield from _turns(row, "messages", "role", "content", _CHAT_ROLES)
    elif "conversations" in row:
        yield from _turns(row, "conversations", "from", "value", _SHAREGPT_ROLES)
    elif "turns" in row:
        turns = row["turns"]
        if not isinstance(turns, list) or not turns or not all(isinstance(t, str) for t in turns):
            raise BadRow("`turns` must be a list of texts")
        empty = next((n for n, turn in enumerate(turns, 1) if n > 1 and not turn.strip()), None)
        if empty is not None:
            raise BadRow(f"turn {empty} is empty")
        yield Message("user", turns[0])
    elif "prompt" in row:
        if not isinstance(row["prompt"], str):
            raise BadRow("`prompt` must be a text")
        yield Message("user", row["prompt"])
    else:
        raise BadRow("expected `messages`, `conversations`, `turns` or `prompt`")


def _is_spec_bench(row: Mapping[str, Any]) -> bool:
    """Whether the prompt is read from `turns`."""
    return "turns" in row and "messages" not in row and "conversations" not in row


def _turns(
    row: Mapping[str, Any], key: str, role_key: str, text_key: str, roles: Mapping[str, str]
) -> Iterator[Message]:
    if not isinstance(row[key], list):
        raise BadRow(f"`{key}` must be a list")
    for turn in row[key]:
        if not isinstance(turn, Mapping) or not isinstance(turn.get(text_key), str):
            raise BadRow(f"each of `{key}` needs `{role_key}` and a text in `{text_key}`")
        role = roles.get(str(turn.get(role_key)))
        if role is None:
            raise BadRow(f"unknown {role_key} {turn.get(role_key)!r}; use {', '.join(roles)}")
        yield Message(role, turn[text_key])


def _label(row: Mapping[str, Any], key: str) -> str | None:
    """A name that may be a number; None when it is absent or empty."""
    value = row.get(key)
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise BadRow(f"`{key}` must be a text or a whole number")
    return str(value)
