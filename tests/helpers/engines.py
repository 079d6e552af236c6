"""Requests for engine tests, and the ways that passes may run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from taskspec.decoding import fixed_shape
from taskspec.decoding.records import DraftChoice, Generation, Request

GPU = [
    pytest.mark.gpu,
    pytest.mark.filterwarnings("error:passes run without CUDA graphs"),
]
WAYS = ["any shape", "fixed shapes", pytest.param("graphs", marks=GPU)]


@pytest.fixture(autouse=True, params=WAYS)
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> torch.device:
    """Passes as on a CPU, of fixed shapes as on a GPU, and there, replayed as graphs."""
    monkeypatch.setenv(fixed_shape.SWITCH, "0" if request.param == "any shape" else "1")
    return torch.device("cuda" if request.param == "graphs" else "cpu")


def prompts(lengths: Sequence[int] = (3, 11, 7, 20, 5, 14)) -> list[tuple[int, ...]]:
    generator = torch.Generator().manual_seed(3)
    return [tuple(torch.randint(2, 48, (n,), generator=generator).tolist()) for n in lengths]


def requests(draft: DraftChoice | None = None, **changes: Any) -> list[Request]:
    made = [
        Request(str(index), prompt, 24, draft=draft, seed=index)
        for index, prompt in enumerate(prompts())
    ]
    return [replace(request, **changes) for request in made]


def tokens(generations: Sequence[Generation]) -> list[tuple[int, ...]]:
    return [generation.tokens for generation in generations]
