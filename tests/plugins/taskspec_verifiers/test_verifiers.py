"""Verifiers: the emitted tokens have exactly the target's distribution."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2
from taskspec_verifiers.greedy import Greedy
from taskspec_verifiers.rejection import Rejection
from torch import Tensor

from taskspec.decoding.sampling import probabilities
from taskspec.interfaces import Sampling, Verdict, Verifier

VOCABULARY = 3


def random_probs(seed: int, *shape: int, zeros: bool = False) -> Tensor:
    """Random distributions over the last axis; with `zeros`, some tokens are impossible."""
    generator = torch.Generator().manual_seed(seed)
    weights = torch.rand(shape, generator=generator) ** 2
    if zeros:
        drop = torch.rand(shape, generator=generator) < 0.3
        drop[..., 0] = False
        weights = weights.masked_fill(drop, 0.0)
    return weights / weights.sum(-1, keepdim=True)


def exact_outcomes(
    verifier: Verifier, draft: Tensor, target: Tensor, cells: int
) -> Iterator[tuple[tuple[int, ...], float]]:
    """Every outcome with its probability: drafts weighted by q, noise at the middle of cells.

    With target and draft probabilities that are multiples of 1 / cells on every cell border the
    sum over cells is the integral itself.
    """
    width = draft.shape[0]
    grid = [(i + 0.5) / cells for i in range(cells)]
    noise = torch.tensor(list(itertools.product(grid, repeat=width + 1)))
    for tokens in itertools.product(range(VOCABULARY), repeat=width):
        weight = float(np.prod([draft[i, t] for i, t in enumerate(tokens)]))
        if weight == 0:
            continue
        rows = len(noise)
        verdict = verifier.verify(
            torch.tensor(tokens).repeat(rows, 1).reshape(rows, width),
            torch.full((rows,), width),
            draft.expand(rows, width, VOCABULARY),
            target.expand(rows, width + 1, VOCABULARY),
            noise,
        )
        pairs = torch.stack([verdict.accepted, verdict.next_token], 1).tolist()
        for accepted, following in pairs:
            yield (*tokens[:accepted], following), weight / rows


@pytest.mark.parametrize("width", [0, 1, 2])
@pytest.mark.parametrize("seed", range(4))
def test_rejection_emits_the_targets_distribution_exactly(width: int, seed: int) -> None:
    """Enumerated: the first emitted token has distribution p, and so has each later one.

    Draft probabilities are halves and quarters, target ones twelfths, so that every acceptance
    and sampling threshold falls on a border of the noise cells (24 per axis).
    """
    generator = torch.Generator().manual_seed(seed)
    shapes = [(0.5, 0.25, 0.25), (0.25, 0.25, 0.5), (0.25, 0.5, 0.25)]
    picks = torch.randint(0, 3, (max(width, 1),), generator=generator).tolist()
    draft = torch.tensor([shapes[pick] for pick in picks[:width]]).reshape(width, VOCABULARY)
    options = [(0.25, 0.5, 0.25), (0.5, 0.0, 0.5), (0.25, 0.25, 0.5), (1.0, 0.0, 0.0)]
    chosen = torch.randint(0, 4, (width + 1,), generator=generator).tolist()
    target = torch.tensor([options[pick] for pick in chosen])
    first = torch.zeros(VOCABULARY, dtype=torch.float64)
    later = torch.zeros(width + 1, dtype=torch.float64)
    found = torch.zeros(width + 1, VOCABULARY, dtype=torch.float64)
    for emitted, weight in exact_outcomes(Rejection(), draft, target, 24):
        first[emitted[0]] += weight
        for place, token in enumerate(emitted):
            found[place, token] += weight
            later[place] += weight
    assert torch.allclose(first, target[0].double(), atol=1e-6)
    for place in range(width + 1):
        if later[place] > 0:
            conditional = found[place] / later[place]
            assert torch.allclose(conditional, target[place].double(), atol=1e-6), place


def draw(
    verifier: Verifier, draft: Tensor, target: Tensor, count: int, seed: int
) -> tuple[Tensor, Verdict]:
    """Sample drafts from q and verify them, one row each."""
    generator = torch.Generator().manual_seed(seed)
    width = draft.shape[0]
    tokens = torch.stack(
        [torch.multinomial(q, count, replacement=True, generator=generator) for q in draft], 1
    )
    noise = torch.rand(count, width + 1, generator=generator)
    verdict = verifier.verify(
        tokens,
        torch.full((count,), width),
        draft.expand(count, *draft.shape),
        target.expand(count, *target.shape),
        noise,
    )
    return tokens, verdict


def first_tokens(tokens: Tensor, verdict: Verdict) -> Tensor:
    return torch.where(verdict.accepted > 0, tokens[:, 0], verdict.next_token)


def p_value(drawn: Tensor, expected: Tensor) -> float:
    """Chi-square; cells expecting fewer than 5 are pooled, impossible ones must be empty."""
    counts = torch.bincount(drawn, minlength=len(expected)).double()
    if counts[expected == 0].sum() > 0:
        return 0.0
    wanted = expected.double() / expected.double().sum() * len(drawn)
    keep = wanted >= 5
    observed = torch.cat([counts[keep], counts[~keep].sum()[None]])
    hoped = torch.cat([wanted[keep], wanted[~keep].sum()[None]])
    if hoped[-1] < 5:
        observed, hoped = observed[:-1], hoped[:-1]
    if len(hoped) < 2:
        return 1.0
    statistic = float(((observed - hoped) ** 2 / hoped).sum())
    return float(chi2.sf(statistic, len(hoped) - 1))


FAMILY = [(t, k, v) for t in (0.3, 1.0, 1.7) for k in (1, 2, 4) for v in (4, 12)]
DRAWS = 200_000
LEVEL = 1e-6 / len(FAMILY)


@pytest.mark.parametrize(("temperature", "width", "size"), FAMILY)
def test_rejection_passes_a_chi_square_test(temperature: float, width: int, size: int) -> None:
    generator = torch.Generator().manual_seed(11 * width + size)
    logits = torch.randn(2, width + 1, size, generator=generator) * 2
    sampling = Sampling(temperature, top_k=size - 1, top_p=0.98)
    target, draft = probabilities(logits[0], sampling), probabilities(logits[1, :-1], sampling)
    tokens, verdict = draw(Rejection(), draft, target, DRAWS, seed=width)
    assert p_value(first_tokens(tokens, verdict), target[0]) > LEVEL
    whole = verdict.accepted == width
    if int(whole.sum()) > 1000:
        assert p_value(verdict.next_token[whole], target[width]) > LEVEL


class TooKind(Rejection):
    """A planted bias: accepts a little more often than it may."""

    def verify(self, tokens, lengths, draft_probs, target_probs, noise):
        return super().verify(tokens, lengths, draft_probs, target_probs, noise * 0.97)


class KeepsP(Rejection):
    """A planted bias: samples from p instead of the residual after a refusal."""

    def verify(self, tokens, lengths, draft_probs, target_probs, noise):
        verdict = super().verify(tokens, lengths, draft_probs, target_probs, noise)
        from taskspec.decoding.sampling import sample

        rows = torch.arange(len(tokens))
        return Verdict(verdict.accepted, sample(target_probs[rows, verdict.accepted], noise[:, -1]))


@pytest.mark.parametrize("biased", [TooKind(), KeepsP()])
def test_the_chi_square_test_notices_a_planted_bias(biased: Verifier) -> None:
    draft, target = random_probs(1, 2, 6), random_probs(2, 3, 6)
    tokens, verdict = draw(biased, draft, target, DRAWS, seed=0)
    assert p_value(first_tokens(tokens, verdict), target[0]) < LEVEL


def case(
    seed: int, rows: int = 5, width: int = 3, size: int = 6, zeros: bool = True
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Ragged rows: tokens, lengths, draft, target, noise."""
    generator = torch.Generator().manual_seed(seed)
    draft = random_probs(seed, rows, width, size, zeros=zeros)
    target = random_probs(seed + 1, rows, width + 1, size, zeros=zeros)
    flat = draft.reshape(-1, size)
    tokens = torch.multinomial(flat, 1, generator=generator).reshape(rows, width)
    lengths = torch.randint(0, width + 1, (rows,), generator=generator)
    return tokens, lengths, draft, target, torch.rand(rows, width + 1, generator=generator)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_impossible_tokens_are_never_emitted(seed: int) -> None:
    tokens, lengths, draft, target, noise = case(seed)
    verdict = Rejection().verify(tokens, lengths, draft, target, noise)
    for row in range(len(tokens)):
        accepted = int(verdict.accepted[row])
        assert accepted <= int(lengths[row])
        for place in range(accepted):
            assert target[row, place, tokens[row, place]] > 0
        assert target[row, accepted, verdict.next_token[row]] > 0


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), deterministic=st.booleans())
def test_rows_do_not_influence_each_other(seed: int, deterministic: bool) -> None:
    tokens, lengths, draft, target, noise = case(seed)
    given_draft = None if deterministic else draft
    together = Rejection().verify(tokens, lengths, given_draft, target, noise)
    for row in range(len(tokens)):
        length = int(lengths[row])
        own_noise = torch.cat([noise[row, :length], noise[row, -1:]])
        alone = Rejection().verify(
            tokens[row : row + 1, :length],
            lengths[row : row + 1],
            None if deterministic else draft[row : row + 1, :length],
            target[row : row + 1, : length + 1],
            own_noise[None],
        )
        assert alone.accepted[0] == together.accepted[row]
        assert alone.next_token[0] == together.next_token[row]


def test_noise_zero_cannot_accept_an_impossible_token() -> None:
    target = torch.tensor([[[0.0, 1.0], [0.0, 1.0]]])
    verdict = Rejection().verify(
        torch.tensor([[0]]), torch.tensor([1]), None, target, torch.zeros(1, 2)
    )
    assert verdict.accepted.tolist() == [0] and verdict.next_token.tolist() == [1]


def test_equal_distributions_accept_everything() -> None:
    probs = random_probs(3, 1, 4, 8).expand(500, 4, 8)
    tokens = torch.multinomial(probs[:, 0], 3, replacement=True)
    noise = torch.rand(500, 4, generator=torch.Generator().manual_seed(0))
    verdict = Rejection().verify(tokens, torch.full((500,), 3), probs[:, :3], probs, noise)
    assert verdict.accepted.tolist() == [3] * 500


def test_disjoint_support_rejects_at_once_without_nan() -> None:
    draft = torch.tensor([[[1.0, 0.0, 0.0]]])
    target = torch.tensor([[[0.0, 0.5, 0.5], [0.0, 1.0, 0.0]]])
    for noise in (0.0, 0.4999, 0.5001, 0.9999999):
        verdict = Rejection().verify(
            torch.tensor([[0]]), torch.tensor([1]), draft, target, torch.tensor([[0.0, noise]])
        )
        assert verdict.accepted.tolist() == [0]
        assert verdict.next_token.tolist() == [1 if noise < 0.5 else 2]


def test_no_residual_falls_back_to_the_target() -> None:
    """Rounding can leave (p - q)+ empty after a refusal."""
    probs = torch.tensor([[[0.5, 0.5]]])
    nudged = probs.clone()
    nudged[..., 0] += 1e-7
    target = torch.cat([probs, probs], 1)
    verdict = Rejection().verify(
        torch.tensor([[0]]), torch.tensor([1]), nudged, target, torch.tensor([[0.99999999, 0.3]])
    )
    assert verdict.next_token.tolist() == [0]


@pytest.mark.parametrize("verifier", [Greedy(), Rejection()])
def test_nothing_drafted_is_plain_decoding(verifier: Verifier) -> None:
    target = torch.nn.functional.one_hot(torch.tensor([[2], [0]]), 4).float()
    verdict = verifier.verify(
        torch.zeros(2, 0, dtype=torch.int64),
        torch.zeros(2, dtype=torch.int64),
        None,
        target,
        torch.full((2, 1), 0.7),
    )
    assert verdict.accepted.tolist() == [0, 0] and verdict.next_token.tolist() == [2, 0]


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_at_temperature_zero_rejection_is_greedy(seed: int) -> None:
    tokens, lengths, _, target, noise = case(seed, zeros=False)
    best = target.argmax(-1)
    tokens = torch.where(torch.rand(tokens.shape) < 0.6, best[:, :-1], tokens)
    one_hot = torch.nn.functional.one_hot(best, target.shape[-1]).float()
    expected = Greedy().verify(tokens, lengths, None, one_hot, noise)
    found = Rejection().verify(tokens, lengths, None, one_hot, noise)
    assert torch.equal(expected.accepted, found.accepted)
    assert torch.equal(expected.next_token, found.next_token)


def test_greedy_accepts_the_agreeing_prefix_only() -> None:
    best = torch.tensor([[1, 2, 3, 4]])
    target = torch.nn.functional.one_hot(best, 6).float()
    for tokens, length, accepted, following in (
        ([1, 2, 3], 3, 3, 4),
        ([1, 0, 3], 3, 1, 2),
        ([0, 2, 3], 3, 0, 1),
        ([1, 2, 3], 2, 2, 3),
    ):
        verdict = Greedy().verify(
            torch.tensor([tokens]), torch.tensor([length]), None, target, torch.zeros(1, 4)
        )
        assert verdict.accepted.tolist() == [accepted]
        assert verdict.next_token.tolist() == [following]
