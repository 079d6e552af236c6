"""What a language model is asked about a prompt, and how its answers are read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Protocol

_QUESTION = "Request: {request}\n\nWhat kind of task is this request?"
_WORDS_OF_NAME = 4
_EXAMPLES = (
    ("Translate 'good morning' into Spanish.", "translation"),
    ("Who painted the ceiling of the Sistine Chapel?", "trivia question"),
    ("Shorten this paragraph to one sentence: ...", "summarization"),
)
_WORD = re.compile(r"[^\W_]+")

Turns = list[dict[str, str]]


class Labeller(Protocol):
    """A language model that says what task a prompt asks for."""

    def choose(self, texts: Sequence[str], labels: Sequence[str]) -> list[int | None]:
        """The index of the label that fits each text; None where it gave none."""
        ...

    def name(self, texts: Sequence[str]) -> list[str | None]:
        """A name of one to four words for the task of each text; None where it gave none."""
        ...


def scoring_turns(request: str) -> Turns:
    """A question whose likeliest answer is looked for; it does not list the labels.

    Small models repeat whatever list they were shown, whatever the request.
    """
    return [_user(_QUESTION.format(request=request) + " Answer with the kind of task only.")]


def choosing_turns(request: str, labels: Sequence[str]) -> Turns:
    """A question that is answered by writing one of the labels."""
    kinds = "\n".join(f"- {label}" for label in labels)
    question = _QUESTION.format(request=request)
    return [_user(f"{question} Answer with exactly one of these kinds and nothing else:\n{kinds}")]


def naming_turns(request: str) -> Turns:
    """A question that is answered by a short name, after a few examples."""
    turns: Turns = []
    for example, name in _EXAMPLES:
        turns += [_user(_naming_question(example)), {"role": "assistant", "content": name}]
    return [*turns, _user(_naming_question(request))]


def shorten(text: str, characters: int) -> str:
    """Beginning and end of a long text: either may hold what is to be done with the rest."""
    if len(text) <= characters:
        return text
    half = max(characters // 2, 1)
    return f"{text[:half]} ... {text[-half:]}"


def read_name(answer: str) -> str | None:
    """The name in an answer, in lower case and at most four words; None without a word."""
    first = next((line for line in spoken(answer).splitlines() if line.strip()), "")
    return " ".join(_WORD.findall(first.lower())[:_WORDS_OF_NAME]) or None


def read_label(answer: str, labels: Sequence[str]) -> int | None:
    """The label that an answer names; the longest one where several are in it, None for none."""
    said = f" {' '.join(_WORD.findall(spoken(answer).lower()))} "
    found = [
        (len(words), -index)
        for index, label in enumerate(labels)
        if (words := " ".join(_WORD.findall(label.lower()))) and f" {words} " in said
    ]
    return -max(found)[1] if found else None


def spoken(answer: str) -> str:
    """An answer without what a reasoning model thought aloud before it."""
    return answer.rpartition("</think>")[2].strip()


def _naming_question(request: str) -> str:
    return _QUESTION.format(request=request) + " Answer in one to four words."


def _user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}
