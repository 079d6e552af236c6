"""Losses and metrics of alignment, by hand."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from taskspec.training.losses import acceptance, agreement, forward_kl

P = torch.tensor([[0.5, 0.3, 0.2]])
Q = torch.tensor([[0.2, 0.2, 0.6]])
TRIMMED = torch.tensor([0, 1])


def random_logits(seed: int) -> Tensor:
    return torch.randn(5, 12, generator=torch.Generator().manual_seed(seed)) * 3


def gradient(student_logits: Tensor, teacher_log_probs: Tensor) -> Tensor:
    student = student_logits.clone().requires_grad_()
    forward_kl(student, teacher_log_probs).backward()
    assert student.grad is not None
    return student.grad


@settings(deadline=None)
@given(st.integers(0, 10**6), st.floats(-20, 20))
def test_the_loss_is_least_where_student_and_teacher_agree(seed: int, shift: float) -> None:
    logits = random_logits(seed)
    log_p = logits.log_softmax(-1)
    assert forward_kl(logits + shift, log_p).abs() < 1e-5
    assert gradient(logits + shift, log_p).abs().max() < 1e-5
    assert forward_kl(random_logits(seed + 1), log_p) > 0


def test_the_loss_is_the_mean_of_p_log_p_over_q() -> None:
    expected = 0.5 * torch.tensor(2.5).log() + 0.3 * torch.tensor(1.5).log()
    expected = expected + 0.2 * torch.tensor(1 / 3).log()
    assert torch.allclose(forward_kl(Q.log(), P.log()), expected)
    half = forward_kl(torch.cat([Q.log(), P.log()]), P.log().expand(2, 3))
    assert torch.allclose(half, expected / 2)


def test_a_trimmed_vocabulary_leaves_p_unnormalised() -> None:
    log_p, logits = P.log()[:, TRIMMED], torch.tensor([[0.25, 0.75]]).log()
    expected = 0.5 * torch.tensor(2.0).log() + 0.3 * torch.tensor(0.4).log()
    assert torch.allclose(forward_kl(logits, log_p), expected)
    assert torch.allclose(gradient(logits, log_p), torch.tensor([[0.8 * 0.25 - 0.5, 0.6 - 0.3]]))


def test_with_a_trimmed_vocabulary_the_best_student_shares_out_what_it_can_win() -> None:
    best = (P[:, TRIMMED] / 0.8).log()
    assert gradient(best, P.log()[:, TRIMMED]).abs().max() < 1e-6


def test_acceptance_is_the_mass_that_both_have() -> None:
    assert acceptance(Q.log(), P.log()).item() == pytest.approx(0.2 + 0.2 + 0.2)
    both = acceptance(torch.cat([Q.log(), P.log()]), P.log().expand(2, 3))
    assert both.item() == pytest.approx((0.6 + 1.0) / 2)


def test_no_trimmed_draft_wins_the_tail() -> None:
    logits = torch.tensor([[0.25, 0.75]]).log()
    assert acceptance(logits, P.log()[:, TRIMMED]).item() == pytest.approx(0.25 + 0.3)
    best = (P[:, TRIMMED] / 0.8).log()
    assert acceptance(best, P.log()[:, TRIMMED]).item() == pytest.approx(0.8)


def test_agreement_counts_first_choices_that_are_the_answers_tokens() -> None:
    logits = torch.tensor([[0.0, 2.0, 1.0], [3.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
    assert agreement(logits, torch.tensor([1, 0, 0, 2]), None).item() == 0.5


def test_agreement_compares_target_ids() -> None:
    logits = torch.tensor([[0.0, 2.0, 1.0], [3.0, 0.0, 0.0]])
    tokens, vocabulary = torch.tensor([70, 0]), torch.tensor([40, 70, 90])
    assert agreement(logits, tokens, vocabulary).item() == 0.5
    assert agreement(logits, torch.tensor([1, 0]), vocabulary).item() == 0.0


def test_half_precision_students_are_compared_in_single_precision() -> None:
    logits = random_logits(0).bfloat16()
    log_p = random_logits(1).log_softmax(-1)
    assert torch.equal(forward_kl(logits, log_p), forward_kl(logits.float(), log_p))
    assert torch.equal(acceptance(logits, log_p), acceptance(logits.float(), log_p))
