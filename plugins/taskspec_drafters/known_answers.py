"""The answers that a draft copies from: those it was built from, and those it has served."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from taskspec_drafters.suffix_automaton import SEPARATOR, SuffixAutomaton


class KnownAnswers:
    """An automaton over answers, to which served ones are added while there is room.

    An automaton cannot drop what it has read. Where served answers outgrow their room, it is made
    anew from what it was built from and the newest half of them.

    Args:
        text: The answers that it is built from, a separator after each.

    Attributes:
        text: As given.
        automaton: Over all answers.
    """

    def __init__(self, text: Sequence[int] = ()) -> None:
        self.text = list(text)
        self._served: deque[Sequence[int]] = deque()
        self._tokens = 0
        self.automaton = self._made_anew()

    def remember(self, answer: Sequence[int], most: int) -> None:
        """Add a served answer; of all of these at most so many tokens stay, the newest."""
        newest = answer[-most:]
        self._served.append(newest)
        self._tokens += len(newest)
        if self._tokens <= most:
            self.automaton.extend([*newest, SEPARATOR])
            return
        while self._tokens > max(most // 2, len(newest)):
            self._tokens -= len(self._served.popleft())
        self.automaton = self._made_anew()

    def forget(self) -> None:
        """Drop what was served."""
        self._served.clear()
        self._tokens = 0
        self.automaton = self._made_anew()

    def _made_anew(self) -> SuffixAutomaton:
        automaton = SuffixAutomaton()
        automaton.extend(self.text)
        for answer in self._served:
            automaton.extend([*answer, SEPARATOR])
        return automaton
