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
from taskspec_drafters.known_answers import KnownAnswers
from taskspec_drafters.suffix_automaton import SEPARATOR, SuffixAutomaton

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
    """A request: its own text, and where in the answers its longest known suffix ends."""

    tokens: list[int] = field(default_factory=list)
    text: SuffixAutomaton = field(default_factory=SuffixAutomaton)
    state: int = 0
    matched: int = 0


class Suffix(Drafter):
    """Continues the longest run of last tokens that occurred before, the way it mostly went on.

    Suffix decoding (Oliaro et al. 2024, arXiv 2411.04975) with suffix automata: one over the
    target's own answers to the task's training prompts, one that grows with the request. Each
    further token must have followed often enough, so drafts are long where the text repeats and
    absent where it is new. Both texts are followed as tokens are drafted, and the likelier one says
    the next. Deterministic, so every proposal counts as one-hot. Answers that it remembers are read
    like those that it was built from (section 3.1, the global tree).
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
        text = [token for answer in answers for token in (*answer, SEPARATOR)]
        self._answers = KnownAnswers(text)
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
        drafter._answers = KnownAnswers(text)
        return drafter

    def save(self, folder: Path) -> None:
        """Write the answers' tokens; the automaton is made again from them."""
        save_file({"tokens": torch.tensor(self._answers.text, dtype=torch.int32)}, folder / _FILE)

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
        self._answers.remember(answer, most)
        self._find_rows(len(answer))

    def forget(self) -> None:
        """Read only the answers it was built from, as at first."""
        self._answers.forget()
        self._find_rows(0)

    def _find_rows(self, longest: int) -> None:
        """Where rows' longest known suffixes end, after answers came or went.

        Args:
            longest: Tokens that a suffix may have which was not known before.
        """
        for row in self._rows.values():
            known = max(row.matched, longest)
            row.state = row.matched = 0
            self._follow(row, row.tokens[-known:] if known else [])

    def _take_in(self, row: _Row, tokens: Sequence[int]) -> None:
        row.tokens.extend(tokens)
        row.text.extend(tokens)
        self._follow(row, tokens)

    def _follow(self, row: _Row, tokens: Sequence[int]) -> None:
        automaton = self._answers.automaton
        for token in tokens:
            row.state, row.matched = automaton.follow(row.state, row.matched, token)

    def _continuation(self, row: _Row, count: int) -> list[int]:
        """At each token the likelier of what the request and the answers suggest."""
        text, answers, least = row.text, self._answers.automaton, self.options.min_match
        state, matched = text.repeated()
        known, known_matched = row.state, row.matched
        drafted: list[int] = []
        likely = 1.0
        while len(drafted) < count:
            token, probability = text.suggest(state, matched, least)
            other, other_probability = answers.suggest(known, known_matched, least)
            if other_probability > probability:
                token, probability = other, other_probability
            likely *= probability
            if not likely or likely < self.options.min_probability:
                break
            drafted.append(token)
            state, matched = text.follow(state, matched, token)
            known, known_matched = answers.follow(known, known_matched, token)
        return drafted
