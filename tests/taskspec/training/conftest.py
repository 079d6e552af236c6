"""Answers of known lengths, for tests of training data."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch

from taskspec.corpus.answers import StoredAnswer

LENGTHS = ((3, 4), (1, 6), (5, 1), (2, 2), (8, 3), (4, 4), (1, 1))
MakeAnswers = Callable[..., list[StoredAnswer]]


@pytest.fixture(scope="session")
def made_answers() -> MakeAnswers:
    """A function that makes answers of (prompt, answer) lengths, with one-dimensional states.

    No two token positions share an id or a state.
    """

    def make(lengths: Sequence[tuple[int, int]] = LENGTHS) -> list[StoredAnswer]:
        answers, first = [], 1
        for prompt, answer in lengths:
            ids = tuple(range(first, first + prompt + answer))
            state = torch.tensor(ids[prompt:], dtype=torch.float32)
            answers.append(
                StoredAnswer(str(first), ids[:prompt], ids[prompt:], True, state[:, None], -state)
            )
            first += prompt + answer
        return answers

    return make
