"""Prompt lookup copies what followed before."""

from __future__ import annotations

import pytest
import torch
from taskspec_drafters.prompt_lookup import PromptLookup, PromptLookupOptions

from taskspec.interfaces import Sampling


def proposed(drafter: PromptLookup, k: int = 4) -> list[int]:
    proposal = drafter.propose([0], [k], torch.zeros(1, k))
    assert proposal.probs is None
    return proposal.tokens[0, : int(proposal.lengths[0])].tolist()


def started(*tokens: int, **options: int) -> PromptLookup:
    drafter = PromptLookup(PromptLookupOptions(**options))
    drafter.start(0, tokens, Sampling())
    return drafter


def test_it_copies_what_followed_the_last_ngram() -> None:
    assert proposed(started(1, 2, 3, 4, 5, 9, 1, 2), 3) == [3, 4, 5]


def test_it_prefers_the_longest_match_and_then_the_latest() -> None:
    assert proposed(started(7, 1, 2, 10, 8, 1, 2, 11, 7, 1, 2), 1) == [10]
    assert proposed(started(1, 2, 10, 8, 1, 2, 11, 9, 1, 2), 1) == [11]


def test_without_a_match_it_proposes_nothing() -> None:
    assert proposed(started(1, 2, 3, 4)) == []


def test_it_never_proposes_more_than_asked_or_known() -> None:
    drafter = started(1, 2, 3, 1, 2)
    assert proposed(drafter, 1) == [3]
    assert proposed(drafter, 8) == [3, 1, 2]


def test_emitted_tokens_are_found_again() -> None:
    drafter = started(5, 6)
    drafter.commit([0], torch.tensor([[7, 8, 0, 0]]), torch.tensor([2]))
    drafter.commit([0], torch.tensor([[5, 6, 1]]), torch.tensor([2]))
    assert proposed(drafter, 2) == [7, 8]


def test_a_stopped_row_is_forgotten() -> None:
    drafter = started(1, 2, 3, 1, 2)
    drafter.stop(0)
    drafter.start(0, (1, 2), Sampling())
    assert proposed(drafter) == []


@pytest.mark.parametrize("options", [{"min_ngram": 0}, {"min_ngram": 5, "max_ngram": 4}])
def test_impossible_options_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="ngram"):
        PromptLookupOptions(**options)
