"""Objectives as recipes write them: by name, with weights, with help for slips."""

from __future__ import annotations

import pytest
import torch

from taskspec.training.losses import cross_entropy, forward_kl, jensen_shannon
from taskspec.training.objectives import OBJECTIVES, Objective, columns_of

VOCABULARY = torch.tensor([2, 9, 4, 7])  # in no order
TOKENS = torch.tensor([9, 3, 2])


def logits(seed: int, tokens: int = 4) -> torch.Tensor:
    return torch.randn(3, tokens, generator=torch.Generator().manual_seed(seed))


STUDENT, LOG_P = logits(0), logits(1, 10).log_softmax(-1)[:, VOCABULARY]


def loss(value: object, beta: float = 0.5) -> float:
    return Objective.parse(value, beta).loss(STUDENT, LOG_P, TOKENS, VOCABULARY).item()


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_name_is_that_loss_with_weight_one(name: str) -> None:
    assert loss(name) == loss({name: 1.0}) == loss({name: 1})


def test_the_names_mean_what_they_say() -> None:
    assert loss("forward-kl") == forward_kl(STUDENT, LOG_P).item()
    assert loss("jensen-shannon", 0.2) == jensen_shannon(STUDENT, LOG_P, 0.2).item()
    assert loss("cross-entropy") == cross_entropy(STUDENT, torch.tensor([1, -1, 0])).item()


def test_a_mixture_is_the_weighted_sum() -> None:
    mixed = loss({name: 0.5 + index for index, name in enumerate(OBJECTIVES)})
    parts = [(0.5 + index) * loss(name) for index, name in enumerate(OBJECTIVES)]
    assert mixed == pytest.approx(sum(parts), rel=1e-5)


def test_tokens_are_found_in_a_vocabulary_of_any_order() -> None:
    assert columns_of(torch.tensor([7, 2, 5, 9, 100]), VOCABULARY).tolist() == [3, 0, -1, 1, -1]
    assert columns_of(TOKENS, None) is TOKENS


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("forward_kl", r"^objective 'forward_kl' is unknown. Did you mean 'forward-kl'\?"),
        ({"tvd+": 1.0}, r"Did you mean 'tvd\+\+'\?"),
        ("fast", "^objective 'fast' is unknown. Known: forward-kl, reverse-kl"),
        ({"forward-kl": 0}, "^objective 'forward-kl' needs a positive weight, not 0"),
        ({"forward-kl": -1.0}, "positive weight"),
        ({"forward-kl": float("nan")}, "positive weight"),
        ({"forward-kl": "much"}, "positive weight, not 'much'"),
        ({"forward-kl": True}, "positive weight"),
        ({}, "^objective must be a name or names with weights"),
        (None, "^objective must be a name"),
        (["forward-kl"], "^objective must be a name"),
    ],
)
def test_slips_are_named(value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Objective.parse(value, 0.5)


@pytest.mark.parametrize("beta", [0.0, 1.0, -0.1, float("nan")])
def test_beta_lies_between_zero_and_one(beta: float) -> None:
    with pytest.raises(ValueError, match="^beta must be above 0 and below 1"):
        Objective.parse("jensen-shannon", beta)
