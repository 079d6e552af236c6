"""The cascade: the first draft that is confident answers, and all of them are told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from taskspec_drafters.cascade import Cascade, CascadeOptions
from taskspec_drafters.prompt_lookup import PromptLookup
from torch import Tensor

from taskspec.errors import ModelError
from taskspec.interfaces import Member, Proposal, Sampling
from taskspec.models.loading import LanguageModel

SAMPLED = Sampling(temperature=1.0)


class Fixed(PromptLookup):
    """Proposes what it was told to; remembers what it is told."""

    def __init__(
        self, says: dict[int, list[int]], probs: float | None = None, kept: Sequence[int] = ()
    ) -> None:
        super().__init__()
        self.says, self.probs, self.kept = says, probs, kept
        self.asked: list[list[int]] = []
        self.told: list[list[int]] = []
        self.adapters: list[str | None] = []

    def start(self, row: int, prompt: Any, *rest: Any) -> None:
        self.adapters.append(rest[-1])

    def propose(self, rows: Sequence[int], k: Sequence[int], noise: Tensor) -> Proposal:
        self.asked.append(list(k))
        said = [self.says.get(row, [])[:count] for row, count in zip(rows, k, strict=True)]
        tokens = torch.zeros(len(rows), max(map(len, said)), dtype=torch.int64)
        for index, each in enumerate(said):
            tokens[index, : len(each)] = torch.tensor(each, dtype=torch.int64)
        vocabulary = torch.tensor(self.kept) if self.kept else None
        probs = None
        if self.probs is not None:
            probs = torch.full((*tokens.shape, len(self.kept) or 10), self.probs)
        return Proposal(tokens, torch.tensor([len(each) for each in said]), probs, vocabulary)

    def commit(self, rows: Any, tokens: Tensor, counts: Tensor, hidden: Any = None) -> None:
        self.told.append(tokens.tolist())


def cascade(*drafters: Fixed, min_tokens: int = 2) -> Cascade:
    names = [f"draft-{index}" for index in range(len(drafters))]
    made = Cascade(CascadeOptions(names, min_tokens))
    made.join([Member(drafter, f"adapter-{index}") for index, drafter in enumerate(drafters)])
    return made


def ask(drafter: Cascade, rows: list[int], k: list[int]) -> Proposal:
    return drafter.propose(rows, k, torch.zeros(len(rows), max(k)))


def tokens_of(proposal: Proposal) -> list[list[int]]:
    pairs = zip(proposal.tokens.tolist(), proposal.lengths.tolist(), strict=True)
    return [tokens[:length] for tokens, length in pairs]


def test_each_row_is_answered_by_the_first_confident_draft() -> None:
    copier = Fixed({0: [1, 2, 3], 1: [4]})
    model = Fixed({0: [9, 9], 1: [5, 6], 2: [7]})
    assert tokens_of(ask(cascade(copier, model), [0, 1, 2], [3, 3, 3])) == [[1, 2, 3], [5, 6], [7]]
    assert copier.asked == [[3, 3, 3]] and model.asked == [[0, 3, 3]]


def test_a_single_token_is_enough_where_only_one_is_asked_for() -> None:
    copier, model = Fixed({0: [1]}), Fixed({0: [2]})
    assert tokens_of(ask(cascade(copier, model), [0], [1])) == [[1]]


def test_every_draft_is_told_what_was_decided() -> None:
    copier, model = Fixed({0: [1, 2]}), Fixed({0: [3, 4]})
    both = cascade(copier, model)
    ask(both, [0], [2])
    both.commit([0], torch.tensor([[1, 7, 0]]), torch.tensor([2]))
    assert copier.told == model.told == [[[1, 7, 0]]]


def test_each_draft_starts_with_its_own_adapter() -> None:
    copier, model = Fixed({}), Fixed({})
    cascade(copier, model).start(0, [1, 2], Sampling())
    assert (copier.adapters, model.adapters) == (["adapter-0"], ["adapter-1"])


def test_copied_and_sampled_rows_share_a_proposal() -> None:
    copier = Fixed({0: [7, 3]})
    model = Fixed({1: [2, 4]}, probs=0.5, kept=[2, 4])
    proposal = ask(cascade(copier, model), [0, 1], [2, 2])
    assert proposal.vocabulary is not None and proposal.probs is not None
    assert proposal.vocabulary.tolist() == [2, 3, 4, 7]
    assert proposal.probs[0].tolist() == [[0, 0, 0, 1], [0, 1, 0, 0]]
    assert proposal.probs[1].tolist() == [[0.5, 0, 0.5, 0], [0.5, 0, 0.5, 0]]


def test_copied_and_trimmed_rows_join_one_with_the_whole_vocabulary() -> None:
    whole = Fixed({0: [7, 3]}, probs=0.1)
    trimmed = Fixed({1: [2, 4]}, probs=0.5, kept=[2, 4])
    both = cascade(whole, trimmed)
    for row in (0, 1):
        both.start(row, [1], SAMPLED)
    proposal = ask(both, [0, 1], [2, 2])
    assert proposal.vocabulary is None and proposal.probs is not None
    assert proposal.probs[0].tolist() == [[pytest.approx(0.1)] * 10] * 2
    assert proposal.probs[1].tolist() == [[0, 0, 0.5, 0, 0.5, *[0] * 5]] * 2


@pytest.mark.parametrize(
    ("sampling", "answer"), [(Sampling(), [8, 8]), (SAMPLED, [1])], ids=["greedy", "sampled"]
)
def test_a_draft_that_sampled_is_not_asked_again_for_a_better_draw(
    sampling: Sampling, answer: list[int]
) -> None:
    drawing, other = Fixed({0: [1]}, probs=0.1), Fixed({0: [8, 8]})
    both = cascade(drawing, other)
    both.start(0, [1], sampling)
    assert tokens_of(ask(both, [0], [3])) == [answer]


def test_it_wants_the_states_that_its_drafts_want() -> None:
    plain, reading, other = Fixed({}), Fixed({}), Fixed({})
    reading.hidden_layers, other.hidden_layers = (-1,), (3,)
    assert cascade(plain, reading).hidden_layers == (-1,)
    with pytest.raises(ModelError, match="different states"):
        cascade(reading, other)


def test_a_draft_named_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="drafts must not name"):
        CascadeOptions(["a", "a"])


def test_a_cascade_of_no_drafts_is_refused(llama: LanguageModel) -> None:
    Cascade.check(llama, CascadeOptions(["small"]))
    with pytest.raises(ModelError, match="no drafts are named.*name drafts of the pool"):
        Cascade.check(llama, CascadeOptions())
