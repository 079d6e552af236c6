"""Losses and metrics of alignment, by hand and by their laws."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from taskspec.training.losses import (
    acceptance,
    agreement,
    cross_entropy,
    forward_kl,
    jensen_shannon,
    negative_log_acceptance,
    reverse_kl,
    total_variation,
    tvd_plus_plus,
)

Loss = Callable[[Tensor, Tensor], Tensor]

P = torch.tensor([[0.5, 0.3, 0.2]])
Q = torch.tensor([[0.2, 0.2, 0.6]])
TRIMMED = torch.tensor([0, 1])
LOG_QUARTER = torch.tensor([[0.25, 0.75]]).log()  # of the trimmed vocabulary
LOSSES: dict[str, Loss] = {
    "forward-kl": forward_kl,
    "reverse-kl": reverse_kl,
    "jensen-shannon-0.5": partial(jensen_shannon, beta=0.5),
    "jensen-shannon-0.1": partial(jensen_shannon, beta=0.1),
    "jensen-shannon-0.9": partial(jensen_shannon, beta=0.9),
    "total-variation": total_variation,
    "tvd++": tvd_plus_plus,
    "log-acceptance": negative_log_acceptance,
}
SMOOTH = ["forward-kl", "reverse-kl", *(name for name in LOSSES if name.startswith("jensen"))]
EACH = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())
seeds = st.integers(0, 10**6)


def random_logits(seed: int, rows: int = 5, tokens: int = 12) -> Tensor:
    return torch.randn(rows, tokens, generator=torch.Generator().manual_seed(seed)) * 3


def gradient(loss: Loss, student_logits: Tensor, teacher_log_probs: Tensor) -> Tensor:
    student = student_logits.clone().requires_grad_()
    loss(student, teacher_log_probs).backward()
    assert student.grad is not None
    return student.grad


@EACH
@settings(deadline=None, max_examples=30)
@given(seed=seeds)
def test_no_loss_is_smaller_than_where_student_and_teacher_agree(loss: Loss, seed: int) -> None:
    logits = random_logits(seed)
    log_p = logits.log_softmax(-1)
    assert loss(logits, log_p).abs() < 1e-5
    assert gradient(loss, logits, log_p).abs().max() < 1e-5
    assert loss(random_logits(seed + 1), log_p) > 1e-3


@pytest.mark.parametrize("name", SMOOTH)
@settings(deadline=None, max_examples=30)
@given(seed=seeds, shift=st.floats(-20, 20))
def test_smooth_losses_do_not_care_about_a_shift_of_the_logits(
    name: str, seed: int, shift: float
) -> None:
    logits = random_logits(seed)
    log_p = logits.log_softmax(-1)
    assert LOSSES[name](logits + shift, log_p).abs() < 1e-5
    assert gradient(LOSSES[name], logits + shift, log_p).abs().max() < 1e-5


@pytest.mark.parametrize("trimmed", [False, True])
@pytest.mark.parametrize("name", [name for name in LOSSES if name != "tvd++"])
def test_gradients_are_those_of_finite_differences(name: str, trimmed: bool) -> None:
    loss, step = LOSSES[name], 0.02
    logits, log_p = random_logits(0, rows=2), random_logits(1, rows=2).log_softmax(-1)
    if trimmed:
        logits, log_p = logits[:, :7], log_p[:, :7]
    found = gradient(loss, logits, log_p)
    for place in range(logits.numel()):
        nudge = torch.zeros(logits.numel()).index_fill(0, torch.tensor(place), step)
        nudge = nudge.reshape(logits.shape)
        slope = (loss(logits + nudge, log_p) - loss(logits - nudge, log_p)) / (2 * step)
        assert found.flatten()[place].item() == pytest.approx(slope.item(), abs=2e-3)


@EACH
@settings(deadline=None, max_examples=30)
@given(seed=seeds, scale=st.sampled_from([1.0, 30.0, 1e3, 1e5, 1e30]), kept=st.integers(1, 11))
def test_values_and_gradients_are_numbers_where_p_or_q_vanish(
    loss: Loss, seed: int, scale: float, kept: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    teacher = random_logits(seed + 1).masked_fill(
        torch.rand(5, 12, generator=generator) < 0.5, -torch.inf
    )
    teacher[:, 0] = 0.0
    log_p = teacher.log_softmax(-1)
    for columns in (slice(None), slice(kept), slice(12 - kept, 12)):
        student = random_logits(seed)[:, columns] * scale
        assert loss(student, log_p[:, columns]).isfinite()
        assert gradient(loss, student, log_p[:, columns]).isfinite().all()


@EACH
def test_half_precision_students_are_compared_in_single_precision(loss: Loss) -> None:
    logits = random_logits(0).bfloat16()
    log_p = random_logits(1).log_softmax(-1)
    assert torch.equal(loss(logits, log_p), loss(logits.float(), log_p))


@EACH
def test_a_loss_is_the_mean_over_positions(loss: Loss) -> None:
    if loss is tvd_plus_plus:
        both = loss(torch.cat([Q.log(), P.log()]), P.log().expand(2, 3))
        assert both.item() == pytest.approx(loss(Q.log(), P.log()).item() / 2)
        return
    logits, log_p = random_logits(0), random_logits(1).log_softmax(-1)
    each = [loss(logits[[row]], log_p[[row]]) for row in range(5)]
    assert loss(logits, log_p).item() == pytest.approx(torch.stack(each).mean().item(), rel=1e-5)


def test_forward_kl_by_hand() -> None:
    expected = 0.5 * math.log(2.5) + 0.3 * math.log(1.5) + 0.2 * math.log(1 / 3)
    assert forward_kl(Q.log(), P.log()).item() == pytest.approx(expected, rel=1e-5)


def test_reverse_kl_by_hand() -> None:
    expected = 0.2 * math.log(0.4) + 0.2 * math.log(2 / 3) + 0.6 * math.log(3)
    assert reverse_kl(Q.log(), P.log()).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("beta", [0.1, 0.5, 0.9])
def test_jensen_shannon_by_hand(beta: float) -> None:
    m = beta * P + (1 - beta) * Q
    expected = beta * (P * (P / m).log()).sum() + (1 - beta) * (Q * (Q / m).log()).sum()
    assert jensen_shannon(Q.log(), P.log(), beta).item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize(("beta", "kl"), [(1e-4, forward_kl), (1 - 1e-4, reverse_kl)])
def test_jensen_shannon_leads_from_forward_to_reverse_kl(beta: float, kl: Loss) -> None:
    scaled = jensen_shannon(Q.log(), P.log(), beta) / min(beta, 1 - beta)
    assert scaled.item() == pytest.approx(kl(Q.log(), P.log()).item(), rel=5e-3)


def test_total_variation_is_half_the_distance() -> None:
    half = (P - Q).abs().sum().item() / 2
    assert total_variation(Q.log(), P.log()).item() == pytest.approx(half)
    assert negative_log_acceptance(Q.log(), P.log()).item() == pytest.approx(-math.log(1 - half))


def test_tvd_plus_plus_is_a_policy_gradient_with_normalised_rewards() -> None:
    logits, log_p = random_logits(0), random_logits(1).log_softmax(-1)
    q, p = logits.softmax(-1), log_p.exp()
    reward = (p > q).float()
    mean = (q * reward).sum(-1).mean()
    deviation = (q * (reward - mean) ** 2).sum(-1).mean().sqrt()
    advantage = (reward - mean) / deviation
    # grad of log q at token x is one_hot(x) - q.
    score = torch.eye(12)[None] - q[:, None]  # [M, x, V]
    expected = -(q[..., None] * score * advantage[..., None]).sum(1) / len(logits)
    torch.testing.assert_close(gradient(tvd_plus_plus, logits, log_p), expected)
    torch.testing.assert_close(expected * deviation, gradient(total_variation, logits, log_p))
    assert tvd_plus_plus(logits, log_p) == total_variation(logits, log_p)


def test_a_draft_that_agrees_nowhere_still_learns_by_log_acceptance() -> None:
    log_p, logits = torch.tensor([[0.0, -60.0]]), torch.tensor([[-30.0, 30.0]])
    assert gradient(total_variation, logits, log_p).abs().max() < 1e-12
    assert gradient(negative_log_acceptance, logits, log_p)[0, 0] < -0.1


def test_cross_entropy_over_tokens_in_proportion_to_p_is_least_at_p() -> None:
    tokens = torch.tensor([0] * 5 + [1] * 3 + [2] * 2)  # P in tenths
    loss = partial(cross_entropy, columns=tokens)
    best = P.log().expand(10, 3).clone().requires_grad_()
    loss(best).backward()
    assert best.grad is not None and best.grad.sum(0).abs().max() < 1e-6
    assert loss(best).item() == pytest.approx(-(P * P.log()).sum().item())
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        other = P.log() + torch.randn(3, generator=generator) * 0.3
        assert loss(other.expand(10, 3)) > loss(best)


def test_cross_entropy_learns_as_forward_kl_does_with_the_tail_left_out() -> None:
    columns = torch.tensor([0] * 5 + [1] * 3 + [-1] * 2)
    logits = LOG_QUARTER.expand(10, 2).clone().requires_grad_()
    cross_entropy(logits, columns).backward()
    assert logits.grad is not None
    found = logits.grad.sum(0, keepdim=True)
    torch.testing.assert_close(found, gradient(forward_kl, LOG_QUARTER, P.log()[:, TRIMMED]))


def test_cross_entropy_of_tokens_outside_the_vocabulary_alone_is_zero() -> None:
    logits = LOG_QUARTER.clone().requires_grad_()
    loss = cross_entropy(logits, torch.tensor([-1]))
    loss.backward()
    assert loss == 0 and logits.grad is not None and not logits.grad.any()


def test_a_trimmed_vocabulary_leaves_p_unnormalised() -> None:
    log_p = P.log()[:, TRIMMED]
    expected = 0.5 * math.log(2.0) + 0.3 * math.log(0.4)
    assert forward_kl(LOG_QUARTER, log_p).item() == pytest.approx(expected, rel=1e-5)
    found = gradient(forward_kl, LOG_QUARTER, log_p)
    assert torch.allclose(found, torch.tensor([[0.8 * 0.25 - 0.5, 0.6 - 0.3]]))


@pytest.mark.parametrize("name", sorted(LOSSES.keys() - {"forward-kl"}))  # infinite in the tail
def test_a_trimmed_loss_is_that_of_a_full_student_that_never_says_the_tail(name: str) -> None:
    never = torch.cat([LOG_QUARTER, torch.tensor([[-1e4]])], dim=1)
    full, trimmed = LOSSES[name](never, P.log()), LOSSES[name](LOG_QUARTER, P.log()[:, TRIMMED])
    assert trimmed.item() == pytest.approx(full.item(), rel=1e-5)


@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("reverse-kl", -math.log(0.8)),
        ("total-variation", 0.2),
        ("tvd++", 0.2),
        ("log-acceptance", -math.log(0.8)),
    ],
)
def test_the_tail_bounds_the_loss_from_below(name: str, least: float) -> None:
    log_p = P.log()[:, TRIMMED]
    best = (P[:, TRIMMED] / 0.8).log()
    assert LOSSES[name](best, log_p).item() == pytest.approx(least, rel=1e-5)
    for seed in range(20):
        assert LOSSES[name](random_logits(seed, 1, 2), log_p).item() >= least - 1e-6


def test_with_a_trimmed_vocabulary_the_best_student_shares_out_what_it_can_win() -> None:
    best = (P[:, TRIMMED] / 0.8).log()
    assert gradient(forward_kl, best, P.log()[:, TRIMMED]).abs().max() < 1e-6
    assert gradient(reverse_kl, best, P.log()[:, TRIMMED]).abs().max() < 1e-6


def test_acceptance_is_the_mass_that_both_have() -> None:
    assert acceptance(Q.log(), P.log()).item() == pytest.approx(0.2 + 0.2 + 0.2)
    both = acceptance(torch.cat([Q.log(), P.log()]), P.log().expand(2, 3))
    assert both.item() == pytest.approx((0.6 + 1.0) / 2)


def test_no_trimmed_draft_wins_the_tail() -> None:
    assert acceptance(LOG_QUARTER, P.log()[:, TRIMMED]).item() == pytest.approx(0.25 + 0.3)
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
