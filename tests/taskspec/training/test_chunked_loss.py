"""The loss in parts is the loss of the whole, gradients included, with less in memory."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from taskspec_aligners.kd import KD, KDOptions
from torch import Tensor, nn

from taskspec.interfaces import AlignmentLoss
from taskspec.training.chunked_loss import alignment_loss, position_parts
from taskspec.training.teacher import StoredTeacherSignal

POSITIONS, STATES, VOCABULARY = 23, 6, 40


class CountingKD(KD):
    """Notes how many positions came together."""

    def __init__(self, options: Any = None) -> None:
        super().__init__(options)
        self.seen: list[int] = []

    def loss(self, student_logits: Tensor, *rest: Any) -> AlignmentLoss:
        self.seen.append(len(student_logits))
        return super().loss(student_logits, *rest)


def lesson() -> tuple[Tensor, nn.Linear, StoredTeacherSignal]:
    torch.manual_seed(0)
    states = torch.randn(POSITIONS, STATES, requires_grad=True)
    target_head, hidden = nn.Linear(5, VOCABULARY), torch.randn(POSITIONS, 5)
    tokens = torch.randint(0, VOCABULARY, (POSITIONS,))
    normalizer = target_head(hidden).detach().logsumexp(-1)
    teacher = StoredTeacherSignal(tokens, hidden, normalizer, target_head)
    return states, nn.Linear(STATES, VOCABULARY), teacher


def learn(aligner: KD, most_logits: int, **settings: Any) -> tuple[AlignmentLoss, list[Tensor]]:
    states, head, teacher = lesson()
    with torch.autocast("cpu", **settings) if settings else torch.enable_grad():
        result = alignment_loss(states, head, aligner, teacher, None, VOCABULARY, most_logits)
        loss = 3 * result.loss
    loss.backward()
    gradients = [states.grad, head.weight.grad, head.bias.grad]
    return result, [each for each in gradients if each is not None]


MIXTURE = {"forward-kl": 0.5, "total-variation": 0.3, "cross-entropy": 0.2}


@pytest.mark.parametrize("objective", ["forward-kl", "reverse-kl", "log-acceptance", MIXTURE])
@pytest.mark.parametrize("most", [1, 3 * VOCABULARY, 11 * VOCABULARY])
def test_parts_add_up_to_the_whole(objective: Any, most: int) -> None:
    whole, expected = learn(KD(KDOptions(objective=objective)), 0)
    parts, found = learn(KD(KDOptions(objective=objective)), most)
    torch.testing.assert_close(parts.loss, whole.loss)
    torch.testing.assert_close(dict(parts.metrics), dict(whole.metrics))
    torch.testing.assert_close(found, expected)
    assert len(found) == 3


def test_autocast_rounds_parts_as_it_rounds_the_whole() -> None:
    settings = {"dtype": torch.bfloat16}
    whole, expected = learn(KD(), 0, **settings)
    parts, found = learn(KD(), 5 * VOCABULARY, **settings)
    torch.testing.assert_close(parts.loss, whole.loss, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found, expected, rtol=2e-2, atol=2e-3)


@pytest.mark.parametrize("objective", ["forward-kl", "total-variation"])
def test_float16_loses_no_more_in_parts_than_in_the_whole(objective: str) -> None:
    """A gradient scaler raises the loss in the backward pass, when parts have their gradients."""
    errors = []
    for positions in (0, 512):
        exact, rounded = (
            gradients_of_many(objective, positions, enabled) for enabled in (False, True)
        )
        pairs = zip(rounded, exact, strict=True)
        errors.append([float((ours - best).norm() / best.norm()) for ours, best in pairs])
    whole, parts = errors
    assert max(whole) < 0.01, "there is something to compare with"
    assert all(own < 1.5 * of_whole for own, of_whole in zip(parts, whole, strict=True))


def gradients_of_many(objective: str, together: int, float16: bool) -> list[Tensor]:
    """Gradients for states and head as a scaler takes them, of so many positions and tokens that
    each one's share is below what float16 can tell from zero."""
    torch.manual_seed(0)
    positions, width = 4096, 1024
    head, target_head = nn.Linear(STATES, width), nn.Linear(5, width)
    hidden, tokens = torch.randn(positions, 5), torch.randint(0, width, (positions,))
    normalizer = target_head(hidden).detach().logsumexp(-1)
    teacher = StoredTeacherSignal(tokens, hidden, normalizer, target_head)
    states = torch.randn(positions, STATES, requires_grad=True)
    aligner = KD(KDOptions(objective=objective))
    with torch.autocast("cpu", dtype=torch.float16, enabled=float16):
        loss = alignment_loss(states, head, aligner, teacher, None, width, together * width).loss
    scale = 2.0**14
    (scale * loss).backward()
    gradients = [states.grad, head.weight.grad]
    return [each / scale for each in gradients if each is not None]


def test_states_in_float16_get_gradients_that_a_scaler_can_take() -> None:
    states, head, teacher = lesson()
    rounded = states.detach().half().requires_grad_()
    with torch.autocast("cpu", dtype=torch.float16):
        loss = alignment_loss(rounded, head, KD(), teacher, None, VOCABULARY, 5 * VOCABULARY).loss
    (2.0**16 * loss).backward()
    assert rounded.grad is not None and rounded.grad.dtype is torch.float16
    _, (expected, *_) = learn(KD(), 0)
    found = rounded.grad.float() / 2**16
    torch.testing.assert_close(found, expected / 3, rtol=2e-2, atol=1e-4)


@pytest.mark.parametrize(("most", "together"), [(0, 23), (40 * 23, 23), (40 * 8, 8), (1, 1)])
def test_no_more_positions_come_together_than_allowed(most: int, together: int) -> None:
    aligner = CountingKD()
    learn(aligner, most)
    assert max(aligner.seen) <= together and sum(aligner.seen) == POSITIONS


def test_a_frozen_head_gets_no_gradient() -> None:
    states, head, teacher = lesson()
    head.requires_grad_(False)
    alignment_loss(states, head, KD(), teacher, None, VOCABULARY, VOCABULARY).loss.backward()
    assert head.weight.grad is None and states.grad is not None


def test_the_logits_of_the_whole_batch_are_never_held() -> None:
    states, head, teacher = lesson()
    largest = 0

    def note(module: nn.Module, inputs: Any, output: Tensor) -> None:
        nonlocal largest
        largest = max(largest, output.numel())

    head.register_forward_hook(note)
    alignment_loss(states, head, KD(), teacher, None, VOCABULARY, 4 * VOCABULARY).loss.backward()
    assert 0 < largest <= 4 * VOCABULARY


@given(st.integers(1, 400), st.integers(1, 50), st.integers(0, 2000))
def test_parts_are_even_and_cover_every_position_once(
    positions: int, width: int, most: int
) -> None:
    parts = position_parts(positions, width, most)
    assert [p for part in parts for p in range(positions)[part]] == list(range(positions))
    sizes = [part.stop - part.start for part in parts]
    assert max(sizes) - min(sizes) <= 1
    assert not most or max(sizes) <= max(1, most // width)
