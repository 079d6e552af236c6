"""The newest answers that a draft has served, to copy from."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from taskspec_drafters.suffix_automaton import SEPARATOR, SuffixAutomaton


class ServedAnswers:
    """An automaton over answers, of which the oldest go where there is no room for all.

    An automaton cannot drop what it has read: when it is full it is made anew from the newest half.

    Attributes:
        automaton: Over all answers that are kept.
    """

    def __init__(self) -> None:
        self.automaton = SuffixAutomaton()
        self._kept: deque[Sequence[int]] = deque()
        self._tokens = 0

    def add(self, answer: Sequence[int], most: int) -> None:
        """Take in an answer, or its end; at most so many tokens of answers stay."""
        newest = answer[-most:]
        self._kept.append(newest)
        self._tokens += len(newest)
        if self._tokens <= most:
            self.automaton.extend([*newest, SEPARATOR])
            return
        while self._tokens > max(most // 2, len(newest)):
            self._tokens -= len(self._kept.popleft())
        self.automaton = SuffixAutomaton()
        for each in self._kept:
            self.automaton.extend([*each, SEPARATOR])
