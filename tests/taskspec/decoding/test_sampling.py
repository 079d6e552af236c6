"""The one place that turns logits into probabilities."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    LogitsProcessorList,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from taskspec.decoding.sampling import probabilities, probabilities_per_row, sample
from taskspec.interfaces import GREEDY_EPSILON, Sampling


def logits(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 3


samplings = st.builds(
    Sampling,
    temperature=st.floats(0.05, 3.0),
    top_k=st.integers(0, 20),
    top_p=st.floats(0.05, 0.999) | st.just(1.0),
)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), sampling=samplings)
def test_processors_are_those_of_transformers(seed: int, sampling: Sampling) -> None:
    given_logits = logits(seed, 3, 16)
    warpers = LogitsProcessorList([TemperatureLogitsWarper(sampling.temperature)])
    if sampling.top_k:
        warpers.append(TopKLogitsWarper(min(sampling.top_k, 16)))
    warpers.append(TopPLogitsWarper(sampling.top_p))
    expected = warpers(None, given_logits.clone()).softmax(-1)
    found = probabilities(given_logits, sampling)
    # At the border of top-p, rounding of the cumulative sum may decide either way.
    same_support = (found > 0) == (expected > 0)
    if same_support.all():
        assert torch.allclose(found, expected, atol=1e-5)
    else:
        assert (same_support.logical_not().sum(-1) <= 1).all()
    assert torch.allclose(found.sum(-1), torch.ones(3), atol=1e-5)


@pytest.mark.parametrize("temperature", [0.0, GREEDY_EPSILON / 2])
def test_tiny_temperatures_are_greedy(temperature: float) -> None:
    given_logits = torch.tensor([[1.0, 5.0, 5.0, -1e30]]) * 1e4
    assert probabilities(given_logits, Sampling(temperature)).tolist() == [[0.0, 1.0, 0.0, 0.0]]


@pytest.mark.parametrize(
    ("values", "named"),
    [
        *(((each, 0, 1.0), f"temperature .* not {each:g}") for each in (-1.0, math.nan, math.inf)),
        ((1.0, -1, 1.0), "top_k .* not -1"),
        *(((1.0, 0, each), f"top_p .* not {each:g}") for each in (0.0, 1.5, math.nan)),
    ],
)
def test_what_gives_no_distribution_is_refused(values: Any, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        Sampling(*values)


def test_a_small_temperature_does_not_overflow() -> None:
    found = probabilities(torch.tensor([[1e4, -1e4, 0.0]]), Sampling(2 * GREEDY_EPSILON))
    assert torch.isfinite(found).all() and found[0, 0] == 1.0


def test_half_precision_logits_give_single_precision_probabilities() -> None:
    found = probabilities(logits(0, 2, 100).bfloat16(), Sampling(1.0))
    assert found.dtype == torch.float32
    assert torch.allclose(found.sum(-1), torch.ones(2), atol=1e-6)


def test_top_p_keeps_at_least_one_token() -> None:
    found = probabilities(torch.tensor([[3.0, 1.0, 0.0]]), Sampling(1.0, top_p=1e-6))
    assert found.tolist() == [[1.0, 0.0, 0.0]]


def test_rows_may_have_processors_of_their_own() -> None:
    given_logits = logits(4, 2, 3, 8)
    mixed = [Sampling(0.0), Sampling(0.8, top_k=3)]
    found = probabilities_per_row(given_logits, mixed)
    for row, sampling in enumerate(mixed):
        assert torch.equal(found[row], probabilities(given_logits[row], sampling))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), noise=st.floats(0, 1, exclude_max=True, width=32))
def test_a_token_of_probability_zero_is_never_drawn(seed: int, noise: float) -> None:
    weights = logits(seed, 40).relu()
    weights[0] = 0.0
    weights[7] = 1e-6
    drawn = sample(weights[None], torch.tensor([noise]))
    assert weights[drawn] > 0


def test_sampling_follows_the_distribution_in_order() -> None:
    probs = torch.tensor([[0.25, 0.0, 0.5, 0.25]])
    drawn = [int(sample(probs, torch.tensor([u]))) for u in (0.0, 0.249, 0.25, 0.74, 0.76, 0.999)]
    assert drawn == [0, 0, 2, 2, 3, 3]
