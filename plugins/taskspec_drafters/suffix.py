"""Draft with what followed before: in this request, and in the target's answers to the task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from taskspec.errors import ModelError
from taskspec.interfaces import DraftCorpus, Drafter, Proposal, Sampling, Target, option
from taskspec_drafters.served_answers import ServedAnswers
from taskspec_drafters.suffix_automaton import NOWHERE, SEPARATOR, Place, SuffixAutomaton

_FILE = "answers.safetensors"


@dataclass(frozen=True)
class SuffixOptions:
    """Options of `suffix`."""

    min_match: int = option(1, "Fewest last tokens that must have occurred before.")
    min_probability: float = option(
        0.15, "Drafting stops when the text is less likely than this to have gone on that way."
    )

    def __post_init__(self) -> None:
        if self.min_match < 1:
            raise ValueError("min_match must be at least 1")
        if not 0 <= self.min_probability <= 1:
            raise ValueError("min_probability must be between 0 and 1")


@dataclass
class _Row:
    """A request.

    Attributes:
        tokens: Its text.
        text: The same as an automaton.
        known: Where in the answers it was built from the text's longest suffix ends.
        served: Where in those it has served.
    """

    tokens: list[int] = field(default_factory=list)
    text: SuffixAutomaton = field(default_factory=SuffixAutomaton)
    known: Place = NOWHERE
    served: Place = NOWHERE


class Suffix(Drafter):
    """Continues the longest run of last tokens that occurred before, the way it mostly went on.

    Suffix decoding (Oliaro et al. 2024, arXiv 2411.04975) with suffix automata: one over the
    target's own answers to the task's training prompts, one that grows with the request. Each
    further token must have followed often enough, so drafts are long where the text repeats and
    absent where it is new. All texts are followed as tokens are drafted, and the likeliest one says
    the next. Deterministic, so every proposal counts as one-hot. Answers that it remembers are in a
    third automaton.
    """

    name = "suffix"
    Options = SuffixOptions
    learns_from_corpus = True
    copies = True
    remembers = True

    def __init__(
        self,
        options: SuffixOptions | None = None,
        answers: Sequence[Sequence[int]] = (),
    ) -> None:
        super().__init__(options)
        self._text = [token for answer in answers for token in (*answer, SEPARATOR)]
        self._answers = SuffixAutomaton()
        self._answers.extend(self._text)
        self._served = ServedAnswers()
        self._rows: dict[int, _Row] = {}

    @classmethod
    def build(cls, target: Target, corpus: DraftCorpus, options: Any) -> Self:
        """Read the target's answers."""
        return cls(options, corpus.answers)

    @classmethod
    def load(cls, folder: Path, target: Target, options: Any) -> Self:
        """Read the stored answers.

        Raises:
            ModelError: When the folder holds none.
        """
        try:
            text = load_file(folder / _FILE)["tokens"].tolist()
        except (OSError, KeyError, SafetensorError) as error:
            raise ModelError(
                f"{folder} holds no suffix draft ({error}); run the recipe again"
            ) from None
        drafter = cls(options)
        drafter._text = text
        drafter._answers.extend(text)
        return drafter

    def save(self, folder: Path) -> None:
        """Write the answers' tokens; the automaton is made again from them."""
        save_file({"tokens": torch.tensor(self._text, dtype=torch.int32)}, folder / _FILE)

    def start(
        self,
        row: int,
        prompt: Sequence[int],
        sampling: Sampling,
        hidden: Tensor | None = None,
        adapter: str | None = None,
    ) -> None:
        """Take in the prompt."""
        self._rows[row] = _Row()
        self._take_in(self._rows[row], prompt)

    def propose(self, rows: Sequence[int], k: Sequence[int], noise: Tensor) -> Proposal:
        """Draft up to k tokens for each row; none where nothing matches."""
        found = [
            self._continuation(self._rows[row], count) for row, count in zip(rows, k, strict=True)
        ]
        tokens = torch.zeros(len(rows), max(map(len, found), default=0), dtype=torch.int64)
        for index, drafted in enumerate(found):
            tokens[index, : len(drafted)] = torch.tensor(drafted, dtype=torch.int64)
        return Proposal(tokens, torch.tensor([len(drafted) for drafted in found]))

    def commit(
        self, rows: Sequence[int], tokens: Tensor, counts: Tensor, hidden: Tensor | None = None
    ) -> None:
        """Take in the emitted tokens."""
        for row, emitted, count in zip(rows, tokens.tolist(), counts.tolist(), strict=True):
            self._take_in(self._rows[row], emitted[:count])

    def stop(self, row: int) -> None:
        """Forget the row's text."""
        self._rows.pop(row, None)

    def remember(self, answer: Sequence[int], most: int) -> None:
        """Read an answer that was served."""
        self._served.add(answer, most)
        for row in self._rows.values():
            # No other text can have brought a longer suffix than it is long itself.
            known = max(row.served[1], len(answer))
            row.served = self._served.automaton.follow_all(NOWHERE, row.tokens[-known:])

    def forget(self) -> None:
        """Read only the answers that it was built from."""
        self._served = ServedAnswers()
        for row in self._rows.values():
            row.served = NOWHERE

    def _take_in(self, row: _Row, tokens: Sequence[int]) -> None:
        row.tokens.extend(tokens)
        row.text.extend(tokens)
        row.known = self._answers.follow_all(row.known, tokens)
        row.served = self._served.automaton.follow_all(row.served, tokens)

    def _continuation(self, row: _Row, count: int) -> list[int]:
        """At each token the likeliest of what the request and the answers suggest."""
        texts, least = (row.text, self._answers, self._served.automaton), self.options.min_match
        places = [row.text.repeated(), row.known, row.served]
        drafted: list[int] = []
        likely = 1.0
        while len(drafted) < count:
            token, probability = 0, 0.0
            for text, place in zip(texts, places, strict=True):
                other, other_probability = text.suggest(*place, least)
                if other_probability > probability:
                    token, probability = other, other_probability
            likely *= probability
            if not likely or likely < self.options.min_probability:
                break
            drafted.append(token)
            places = [text.follow(*place, token) for text, place in zip(texts, places, strict=True)]
        return drafted
