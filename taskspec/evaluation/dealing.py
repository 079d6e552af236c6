"""Dealing from groups, so that the first few of all come from every one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

_T = TypeVar("_T")


def deal(groups: Iterable[Sequence[_T]]) -> list[_T]:
    """The first of every group, then the second of every one that has it, until all are dealt."""
    groups = list(groups)
    turns = max(map(len, groups), default=0)
    return [group[turn] for turn in range(turns) for group in groups if turn < len(group)]
