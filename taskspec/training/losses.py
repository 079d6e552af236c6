"""How far a draft's distribution is from the target's.

p is the target's distribution over its full vocabulary, q the draft's, zero outside the draft's
vocabulary. p is never renormalised to that vocabulary: the mass outside is the tail, which no
draft can win. Every loss says what becomes of it.

All are computed in float32 and averaged over positions; where q can be p, none is smaller than
there. Student logits are finite; teacher log-probabilities may be -inf.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

LEAST_LOG_PROB = -100.0
"""log p below this counts as this where a loss would else be infinite; exp(-100) is 4e-44."""


def forward_kl(student_logits: Tensor, teacher_log_probs: Tensor) -> Tensor:
    """Sum of p log(p / q) over the draft's vocabulary, averaged over positions.

    With a trimmed vocabulary this is the divergence less the tail's (infinite) part, which does
    not depend on the draft; its gradient is that of cross entropy against p.

    Args:
        student_logits: float [M, Vd], with gradients.
        teacher_log_probs: float32 [M, Vd], normalised over the full vocabulary.

    Returns:
        Scalar.
    """
    log_q = student_logits.float().log_softmax(dim=-1)
    p = teacher_log_probs.exp()
    return (p * (_bounded(teacher_log_probs) - log_q)).sum(dim=-1).mean()


def reverse_kl(student_logits: Tensor, teacher_log_probs: Tensor) -> Tensor:
    """Sum of q log(q / p), averaged over positions: the draft leaves out what it cannot match.

    The tail adds nothing, as q is zero there; but mass that p has outside the draft's vocabulary
    keeps p small inside, so the least value is -log(1 - tail), not zero. MiniLLM (arXiv
    2306.08543).

    Args:
        student_logits: float [M, Vd], with gradients.
        teacher_log_probs: float32 [M, Vd], normalised over the full vocabulary.

    Returns:
        Scalar.
    """
    log_q = student_logits.float().log_softmax(dim=-1)
    return (log_q.exp() * (log_q - _bounded(teacher_log_probs))).sum(dim=-1).mean()


def jensen_shannon(student_logits: Tensor, teacher_log_probs: Tensor, beta: float) -> Tensor:
    """Generalised Jensen-Shannon divergence, averaged over positions.

    beta KL(p || m) + (1 - beta) KL(q || m) with m = beta p + (1 - beta) q: GKD (arXiv
    2306.13649, section 2). Near beta = 0 its gradient is beta times forward KL's, near 1 it is
    1 - beta times reverse KL's. The tail, where m = beta p, adds beta log(1 / beta) times its mass.

    Args:
        student_logits: float [M, Vd], with gradients.
        teacher_log_probs: float32 [M, Vd], normalised over the full vocabulary.
        beta: Weight of the target in the mixture, above 0 and below 1.

    Returns:
        Scalar.
    """
    log_q = student_logits.float().log_softmax(dim=-1)
    log_p = _bounded(teacher_log_probs)
    p = teacher_log_probs.exp()
    log_m = torch.logaddexp(log_p + math.log(beta), log_q + math.log1p(-beta))
    inside = beta * p * (log_p - log_m) + (1 - beta) * log_q.exp() * (log_q - log_m)
    tail = (1 - p.sum(dim=-1)).clamp(min=0)
    return (inside.sum(dim=-1) - beta * math.log(beta) * tail).mean()


def total_variation(student_logits: Tensor, teacher_log_probs: Tensor) -> Tensor:
    """1 - sum of min(p, q), averaged over positions: 1 - alpha (metrics.md).

    The tail counts in full, so the least value is its mass. This is the share of drafted tokens
    that are refused (Leviathan et al. 2023, arXiv 2211.17192, corollary 3.6).

    Args:
        student_logits: float [M, Vd], with gradients.
        teacher_log_probs: float32 [M, Vd], normalised over the full vocabulary.

    Returns:
        Scalar.
    """
    q = student_logits.float().log_softmax(dim=-1).exp()
    return (1 - q.minimum(teacher_log_probs.exp()).sum(dim=-1)).mean()


def tvd_plus_plus(student_logits: Tensor, teacher_log_probs: Tensor) -> Tensor:
    """Total variation whose policy gradient has normalised rewards.

    TVD++ of Goel et al. 2024 (arXiv 2403.00858): the gradient of total variation is a policy
    gradient, E over x ~ q of grad log q(x) times -r(x), with the reward r(x) = 1 where
    p(x) > q(x) and 0 elsewhere; TVD++ puts the advantage (r(x) - mean) / deviation in its place.
    Mean and deviation are those of the reward under q over all positions of the batch. Here
    every expectation is a full sum, so the mean cancels out and the deviation remains as a step
    size: steps do not vanish while p and q hardly overlap, nor when they nearly agree.

    The tail bears no reward, as q never draws from it.

    Args:
        student_logits: float [M, Vd], with gradients.
        teacher_log_probs: float32 [M, Vd], normalised over the full vocabulary.

    Returns:
        Scalar: the value is total variation's, the gradient TVD++'s.
    """
    q = student_logits.float().log_softmax(dim=-1).exp()
    with torch.no_grad():
        reward = (teacher_log_probs.exp() > q).float()
        mean = (q * reward).sum(dim=-1).mean()
        deviation = (q * (reward - mean).square()).sum(dim=-1).mean().sqrt()
        # All rewards are alike when the deviation is zero; then so are all advantages: zero.
        advantage = (reward - mean) / deviation.clamp(min=1e-6)
        value = total_variation(student_logits, teacher_log_probs)
    surrogate = -(q * advantage).sum(dim=-1).mean()
    return value + surrogate - surrogate.detach()


def negative_log_acceptance(student_logits: Tensor, teacher_log_probs: Tensor) -> Tensor:
    """-log of the sum of min(p, q), averaged over positions.

    The gradient is total variation's divided by the acceptance, which lets a draft that agrees
    with the target nowhere learn at all: the likelihood-based loss of LK losses (arXiv
    2602.23881). The least value is -log(1 - tail).

    Args:
        student_logits: float [M, Vd], with gradients.
        teacher_log_probs: float32 [M, Vd], normalised over the full vocabulary.

    Returns:
        Scalar.
    """
    log_q = student_logits.float().log_softmax(dim=-1)
    return -log_q.minimum(_bounded(teacher_log_probs)).logsumexp(dim=-1).mean()


def cross_entropy(student_logits: Tensor, columns: Tensor) -> Tensor:
    """-log q of the target's own tokens, averaged over positions.

    Tokens of the tail add nothing but count as positions, so that over many answers this is
    forward KL plus what does not depend on the draft.

    Args:
        student_logits: float [M, Vd], with gradients.
        columns: int64 [M], column of each token in the draft's vocabulary; -1 outside it.

    Returns:
        Scalar.
    """
    log_q = student_logits.float().log_softmax(dim=-1)
    chosen = log_q.gather(-1, columns.clamp(min=0)[:, None])[:, 0]
    return -chosen.where(columns >= 0, 0.0).mean()


def acceptance(student_logits: Tensor, teacher_log_probs: Tensor) -> Tensor:
    """Theoretical acceptance alpha = E[sum min(p, q)] (metrics.md), scalar."""
    q = student_logits.float().softmax(dim=-1)
    return q.minimum(teacher_log_probs.exp()).sum(dim=-1).mean()


def agreement(student_logits: Tensor, tokens: Tensor, vocabulary: Tensor | None) -> Tensor:
    """Share of positions whose most likely draft token is the answer's token, scalar.

    Args:
        student_logits: float [M, Vd].
        tokens: int64 [M], the answer tokens; the target's first choice when it was greedy.
        vocabulary: int64 [Vd] target ids of the columns; None for all.
    """
    guess = student_logits.argmax(dim=-1)
    if vocabulary is not None:
        guess = vocabulary.to(guess.device)[guess]
    return (guess == tokens).float().mean()


def _bounded(log_probs: Tensor) -> Tensor:
    """Log-probabilities without -inf, whose product with zero would be no number."""
    return log_probs.clamp(min=LEAST_LOG_PROB)
