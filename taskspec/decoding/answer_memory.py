"""Answers that were served, handed to drafts that copy from them later.

What a target has said is the best sample of what it will say: prompts of a task that no draft knows
are guessed from the task's own earlier answers. Answers stay the target's; how fast a prompt is
answered depends on those before it, and so does which text of the target's distribution is drawn
above temperature 0. Suffix decoding (Oliaro et al. 2024, arXiv 2411.04975, section 3.1).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from taskspec.decoding.records import Generation, Request
from taskspec.interfaces import Drafter


@dataclass(frozen=True)
class AnswerMemory:
    """Which drafts take in which answers.

    Attributes:
        learners: Drafters that take in an answer, by the name of the draft that its request asks
            for or that served it; None for requests without one.
        most: Answer tokens that each of them keeps, at least 1.
    """

    learners: Mapping[str | None, Sequence[Drafter]]
    most: int

    def take_in(self, request: Request, answer: Generation) -> None:
        """Hand on a finished answer."""
        choices = (request.draft, *answer.served)
        names = dict.fromkeys(None if each is None else each.draft for each in choices)
        for drafter in _each_once(self.learners.get(name, ()) for name in names):
            drafter.remember(answer.tokens, self.most)

    def forget(self) -> None:
        """Let every draft forget all answers."""
        for drafter in _each_once(self.learners.values()):
            drafter.forget()


def _each_once(groups: Iterable[Sequence[Drafter]]) -> Iterable[Drafter]:
    return {id(each): each for group in groups for each in group}.values()
