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
