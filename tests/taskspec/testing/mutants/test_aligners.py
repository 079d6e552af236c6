"""Bugs planted in aligners: the conformance kit catches each."""

from __future__ import annotations

import random

import pytest
import torch
from planted import mutants
from taskspec_aligners.kd import KD
from taskspec_aligners.lora_kd import LoraKD

from taskspec.interfaces import AlignmentLoss

MUTANTS, mutant = mutants()


@mutant("minimum_where_student_equals_teacher")
class SwapsTheSign(KD):
    """Climbs instead of descending."""

    def loss(self, student_logits, teacher, vocabulary):
        result = super().loss(student_logits, teacher, vocabulary)
        return AlignmentLoss(-result.loss, result.metrics)


@mutant("loss_is_a_mean_over_positions")
class SumsOverPositions(KD):
    """The loss grows with the batch, so that processes and batch sizes disagree."""

    def loss(self, student_logits, teacher, vocabulary):
        result = super().loss(student_logits, teacher, vocabulary)
        return AlignmentLoss(result.loss * len(student_logits), result.metrics)


@mutant("gradients_only_where_promised")
class TrainsNothing(KD):
    """Freezes everything."""

    def prepare(self, drafter, seed):
        module = super().prepare(drafter, seed)
        return module.requires_grad_(False)


@mutant("export_reloads_with_equal_logits")
class ExportsTheStart(KD):
    """Delivers the weights from before training."""

    def prepare(self, drafter, seed):
        module = super().prepare(drafter, seed)
        self.start = {name: p.detach().clone() for name, p in module.named_parameters()}
        return module

    def export(self, drafter, folder):
        with torch.no_grad():
            for name, parameter in drafter.module.named_parameters():
                parameter.copy_(self.start[name])
        super().export(drafter, folder)
        with torch.no_grad():
            for parameter in drafter.module.parameters():
                parameter.add_(0.0)


@mutant("prepare_is_seeded")
class AdaptersFromAnySeed(LoraKD):
    """The adapters' start does not depend on the seed that is given."""

    def prepare(self, drafter, seed):
        return super().prepare(drafter, random.SystemRandom().randrange(10**6))


@pytest.mark.parametrize("planted", MUTANTS, ids=str)
def test_the_kit_catches(planted):
    planted.assert_caught()
