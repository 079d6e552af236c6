"""Where in a YAML file each key stands."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import yaml


@dataclass(frozen=True)
class KeyLine:
    """A key of a YAML file.

    Attributes:
        path: Dotted path of the key.
        line: Its line, from 1.
        repeated: Whether the same key stood in the same mapping before.
    """

    path: str
    line: int
    repeated: bool


def key_lines(text: str) -> list[KeyLine]:
    """Every key of a YAML text with its line.

    Raises:
        yaml.YAMLError: When the text is no YAML.
    """
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    return [] if root is None else list(_walk(root, ""))


def _walk(node: yaml.Node, prefix: str) -> Iterator[KeyLine]:
    if not isinstance(node, yaml.MappingNode):
        return
    seen: set[str] = set()
    for key, value in node.value:
        path = f"{prefix}{key.value}"
        yield KeyLine(path, key.start_mark.line + 1, key.value in seen)
        seen.add(key.value)
        yield from _walk(value, f"{path}.")


def line_of(path: str, lines: list[KeyLine]) -> int | None:
    """The line of a path, or of the nearest key above it that the file has."""
    known = {each.path: each.line for each in lines}
    while path:
        if path in known:
            return known[path]
        path = path.rpartition(".")[0]
    return None
