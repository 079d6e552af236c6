"""How far a draft's distribution is from the target's.

p is the target's distribution over its full vocabulary, q the draft's, zero outside the draft's
vocabulary. p is never renormalised to that vocabulary: the mass outside is the tail, which no
draft can win.
"""

from __future__ import annotations

from torch import Tensor


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
    return (p * (teacher_log_probs - log_q)).sum(dim=-1).mean()


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
