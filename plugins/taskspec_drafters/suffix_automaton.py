"""A suffix automaton that grows token by token and counts what it has seen."""

from __future__ import annotations

from collections.abc import Sequence

SEPARATOR = -1
"""Stands between texts; no token equals it, so no match runs across."""
Place = tuple[int, int]
"""The state of a run of tokens, and the run's length."""
NOWHERE: Place = (0, 0)
_ROOT = 0


class SuffixAutomaton:
    """All runs of tokens of a text, each with how often it has occurred.

    Blumer et al. 1985. A state stands for the runs that end at the same places; following `next`
    appends a token, following `link` drops tokens from the front.

    Attributes:
        next: Per state, the state that a further token leads to.
        link: Per state, that of its longest suffix with more places; -1 for the empty run.
        length: Per state, the tokens of its longest run.
        count: Per state, how often its runs have occurred.
    """

    def __init__(self) -> None:
        self.next: list[dict[int, int]] = [{}]
        self.link = [-1]
        self.length = [0]
        self.count = [0]
        self._last = _ROOT
        self._likeliest: dict[int, tuple[int, int, int] | None] = {}

    def extend(self, tokens: Sequence[int]) -> None:
        """Append tokens to the text."""
        self._likeliest.clear()
        for token in tokens:
            self._append(token)

    def follow_all(self, place: Place, tokens: Sequence[int]) -> Place:
        """The longest known suffix after several more tokens."""
        for token in tokens:
            place = self.follow(*place, token)
        return place

    def follow(self, state: int, matched: int, token: int) -> Place:
        """The longest suffix of a run and one more token that the text holds.

        Args:
            state: The state of a run that ends in the longest suffix so far.
            matched: That suffix's length.
            token: What follows it.

        Returns:
            State and length of the longest suffix after the token; (0, 0) for none.
        """
        while state != _ROOT and token not in self.next[state]:
            state = self.link[state]
            matched = self.length[state]
        if token in self.next[state]:
            return self.next[state][token], matched + 1
        return _ROOT, 0

    def repeated(self) -> Place:
        """State and length of the longest suffix of the text that occurred before."""
        state = max(self.link[self._last], _ROOT)
        return state, self.length[state]

    def suggest(self, state: int, matched: int, least: int) -> tuple[int, float]:
        """The token that mostly followed a run, and how likely it follows now.

        What followed in a few places is no certainty: one more place counts as having gone on
        otherwise, the less the longer the run.

        Args:
            state: The state of the run.
            matched: Its length.
            least: Fewest tokens that a run must have to suggest anything.

        Returns:
            Token and probability; (0, 0) where none followed.
        """
        while matched >= least:
            found = self.likeliest(state)
            if found is not None:
                token, times, total = found
                return token, times / (total + 1 / matched)
            # The text ends here; it goes on as its own ending did before.
            state = self.link[state]
            matched = self.length[state]
        return 0, 0.0

    def likeliest(self, state: int) -> tuple[int, int, int] | None:
        """The token that mostly followed a state's runs, how often, and how often any did.

        The smallest id of several; None where nothing followed.
        """
        if state not in self._likeliest:
            best, total = (0, 0), 0
            for token, after in self.next[state].items():
                total += self.count[after]
                if token != SEPARATOR:
                    best = min(best, (-self.count[after], token))
            self._likeliest[state] = (best[1], -best[0], total) if best[0] else None
        return self._likeliest[state]

    def _append(self, token: int) -> None:
        new, at = self._state(self.length[self._last] + 1), self._last
        while at >= 0 and token not in self.next[at]:
            self.next[at][token] = new
            at = self.link[at]
        if at < 0:
            self.link[new] = _ROOT
        else:
            known = self.next[at][token]
            if self.length[known] == self.length[at] + 1:
                self.link[new] = known
            else:
                self.link[new] = self._split(at, token, known)
        self._last = new
        while new > _ROOT:
            self.count[new] += 1
            new = self.link[new]

    def _split(self, at: int, token: int, known: int) -> int:
        """Give the shorter runs of a state one of their own: they now end at more places."""
        shorter = self._state(self.length[at] + 1)
        self.next[shorter] = dict(self.next[known])
        self.link[shorter] = self.link[known]
        self.count[shorter] = self.count[known]
        self.link[known] = shorter
        while at >= 0 and self.next[at].get(token) == known:
            self.next[at][token] = shorter
            at = self.link[at]
        return shorter

    def _state(self, length: int) -> int:
        self.next.append({})
        self.link.append(_ROOT)
        self.length.append(length)
        self.count.append(0)
        return len(self.length) - 1
