"""What a step learns from its batches, and what held-out batches add to a score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from taskspec_aligners.kd import KD
from torch import Tensor
from trainings import CONFIG, TRAINER, planned, rows, train, uneven_answers

from taskspec.testing.toy_draft import toy_draft
from taskspec.testing.toy_target import toy_target
from taskspec.training.batches import AlignmentBatch, make_packed_batch
from taskspec.training.data import AlignmentData
from taskspec.training.module import AlignmentModule
from taskspec.training.packing import Rows
from taskspec.training.schedule import Schedule

STANDING_STILL = 1e-30
"""A learning rate at which every step finds the same draft."""
ANSWERS = uneven_answers()


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[list[Tensor]]:
    """The gradients of every step, as they come to be clipped."""
    found: list[list[Tensor]] = []

    def note(module: AlignmentModule, *_: Any, **__: Any) -> None:
        gradients = [parameter.grad for parameter in module.lesson.parameters()]
        found.append([each.clone() for each in gradients if each is not None])

    monkeypatch.setattr(AlignmentModule, "configure_gradient_clipping", note)
    return found


def mean_loss(batches: Sequence[Rows]) -> tuple[float, list[Tensor]]:
    """The mean loss over all answer tokens of some batches, and its gradients."""
    draft, aligner = toy_draft(), KD()
    aligner.prepare(draft, 0)
    together = [[ANSWERS[2:][index] for index in row] for batch in batches for row in batch]
    made = make_packed_batch(together, toy_target().head)
    assert made.teacher is not None
    loss = aligner.loss(draft.training_logits(made.batch, made.teacher), made.teacher, None).loss
    loss.backward()
    gradients = [parameter.grad for parameter in draft.module.parameters()]
    return float(loss.detach()), [each for each in gradients if each is not None]


@pytest.mark.parametrize("together", [1, 2, 5])
def test_a_step_learns_the_mean_over_all_its_answer_tokens(
    tmp_path: Path, steps: list[list[Tensor]], together: int
) -> None:
    config = replace(CONFIG, trainer=replace(TRAINER, accumulate_grad_batches=together))
    train(tmp_path, None, config, False, STANDING_STILL, ANSWERS)
    plan = planned(ANSWERS)
    groups = [plan[first : first + together] for first in range(0, len(plan), together)]
    assert len(steps) == len(groups)
    for number in (0, 1, -1):
        _, expected = mean_loss(groups[number])
        torch.testing.assert_close(steps[number], expected, rtol=1e-3, atol=1e-5)


def test_the_loss_that_is_logged_is_the_mean_of_a_batch(tmp_path: Path) -> None:
    config = replace(CONFIG, trainer=replace(TRAINER, accumulate_grad_batches=2))
    train(tmp_path, None, config, False, STANDING_STILL, ANSWERS)
    plan = planned(ANSWERS)
    for step, logged in rows(tmp_path, "loss")[:3]:
        expected, _ = mean_loss([plan[2 * step + 1]])
        assert logged == pytest.approx(expected, rel=1e-3)


def test_batches_of_the_draft_s_own_texts_count_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AlignmentModule, "log", lambda *_, **__: None)
    batch = held_out(0, 1)[0]
    plain, weighted, alike = (
        module_of(weighs).training_step(replace(batch, weight=weight), 0).detach()
        for weighs, weight in ((True, 1.0), (True, 1.5), (False, 1.5))
    )
    torch.testing.assert_close(weighted, 1.5 * plain)
    assert torch.equal(alike, plain)


def module_of(weighs: bool = True) -> AlignmentModule:
    target = toy_target()
    schedule = Schedule(1e-3, 0.1, 0.0, 0)
    return AlignmentModule(toy_draft(), KD(), schedule, 0, target.vocabulary_size, weighs=weighs)


def held_out(rank: int, world: int) -> list[AlignmentBatch]:
    """The batches that one of several processes scores."""
    data: Any = AlignmentData(ANSWERS, ANSWERS[:5], toy_target().head, 16, 60, seed=0)
    data.trainer = SimpleNamespace(global_rank=rank, world_size=world)
    return list(data.val_dataloader())


@pytest.mark.parametrize("world", [2, 3])
def test_a_score_does_not_depend_on_the_number_of_processes(world: int) -> None:
    scores = []
    for processes in (1, world):
        module = module_of()
        module.eval()
        for rank in range(processes):
            for number, batch in enumerate(held_out(rank, processes)):
                module.validation_step(batch, number)
        scores.append(module.held_out.sums)
    torch.testing.assert_close(scores[1], scores[0])
