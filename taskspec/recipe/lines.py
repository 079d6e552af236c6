"""Where in a YAML file each key stands."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import yaml

OVERRIDE = "override"


@dataclass(frozen=True)
class KeyLine:
    """A key of a YAML file.

    Attributes:
        path: Dotted path of the key.
        line: Its line, from 1.
        earlier: Line of the same key earlier in the same mapping; None when it is the first.
    """

    path: str
    line: int
    earlier: int | None


def key_lines(text: str) -> list[KeyLine]:
    """Every key of a YAML text with its line.

    Raises:
        yaml.YAMLError: When the text is no YAML, or a part of it contains itself.
    """
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    return [] if root is None else list(_walk(root, "", ()))


def _walk(node: yaml.Node, prefix: str, above: Sequence[yaml.Node]) -> Iterator[KeyLine]:
    if any(node is each for each in above):
        raise yaml.MarkedYAMLError(
            problem="an alias stands inside what it stands for", problem_mark=node.start_mark
        )
    above = (*above, node)
    if isinstance(node, yaml.SequenceNode):
        for each in node.value:
            # Dotted paths do not reach into lists; the walk only looks for loops there.
            list(_walk(each, prefix, above))
    elif isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key, value in node.value:
            name, line = str(key.value), key.start_mark.line + 1
            yield KeyLine(f"{prefix}{name}", line, seen.get(name))
            seen.setdefault(name, line)
            yield from _walk(value, f"{prefix}{name}.", above)


class Places:
    """Says where a key was set: a line of the file, or an override."""

    def __init__(self, name: str, lines: Iterable[KeyLine], overridden: Iterable[str]) -> None:
        """Remember where everything stands.

        Args:
            name: The file's name, as messages show it.
            lines: The file's keys.
            overridden: Dotted paths that overrides set.
        """
        self._name, self._overridden = name, tuple(overridden)
        self._lines = {each.path: each.line for each in lines}

    def __call__(self, path: str) -> str:
        """`my.yaml:7`, the file's name alone for what it does not mention, or `override`."""
        if self._is_overridden(path):
            return OVERRIDE
        line = self.line(path)
        return self._name if line is None else f"{self._name}:{line}"

    def line(self, path: str) -> int | None:
        """The line of a path, or of the nearest key above it that the file has."""
        while path:
            if path in self._lines:
                return self._lines[path]
            path = path.rpartition(".")[0]
        return None

    def order(self, path: str) -> tuple[bool, int]:
        """Sorts problems as they stand in the file, those of overrides last."""
        return self._is_overridden(path), self.line(path) or 0

    def _is_overridden(self, path: str) -> bool:
        return any(
            f"{path}.".startswith(f"{key}.") or key.startswith(f"{path}.")
            for key in self._overridden
        )
