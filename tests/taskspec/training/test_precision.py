"""Precision is chosen only where the recipe leaves it open."""

from __future__ import annotations

import pytest
import torch

from taskspec.training.precision import choose_precision


@pytest.mark.parametrize("named", ["32-true", "bf16-mixed", "16-mixed"])
def test_what_the_recipe_names_stands(named: str) -> None:
    assert choose_precision(named, "cpu") == named


def test_a_cpu_that_emulates_bf16_trains_in_float32() -> None:
    own = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    assert choose_precision("auto", "cpu") == ("bf16-mixed" if own else "32-true")


def test_a_gpu_trains_in_bf16() -> None:
    assert choose_precision("auto", "gpu") == "bf16-mixed"
