"""Where a row comes near the end of the context, it and the rows beside it answer as if alone.

The targets are of kinds that tell: learned positions have an end, and `longrope` turns all rows of
a pass in another way where one goes beyond.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from engines import (
    device,  # noqa: F401
    prompts,
    tokens,
)
from taskspec_verifiers.greedy import Greedy
from transformers import GPT2Config, Phi3Config

from taskspec.decoding.cached_model import CachedModel
from taskspec.decoding.cost import measure_target
from taskspec.decoding.engine import Engine
from taskspec.decoding.records import DraftChoice, Request
from taskspec.models.loading import LanguageModel, load_language_model

CONTEXT = 24
LONGROPE = {
    "rope_type": "longrope",
    "short_factor": [1.0] * 4,
    "long_factor": [0.25, 3.0, 5.0, 9.0],
    "original_max_position_embeddings": CONTEXT,
}
KINDS: dict[str, tuple[Any, dict[str, Any]]] = {
    "learned positions": (GPT2Config, {"max_position_embeddings": CONTEXT}),
    "longrope": (
        Phi3Config,
        {
            "max_position_embeddings": 4 * CONTEXT,
            "original_max_position_embeddings": CONTEXT,
            "rope_parameters": LONGROPE,
        },
    ),
}


@pytest.fixture(params=KINDS)
def ending(
    request: pytest.FixtureRequest,
    save_tiny: Callable[..., Path],
    device: torch.device,  # noqa: F811
) -> LanguageModel:
    """A target whose context is short."""
    config, changes = KINDS[request.param]
    target = load_language_model(str(save_tiny(config, **changes)), device=str(device))
    assert target.context_length == CONTEXT
    return target


def short_and_long(draft: DraftChoice | None) -> list[Request]:
    """One that goes on, one that soon ends with the context, and one that comes after that."""
    made = [
        Request(str(place), prompt, 14, draft=draft, ignore_eos=True)
        for place, prompt in enumerate(prompts((3, 20, 22)))
    ]
    return [made[0], made[1], replace(made[2], draft=None)]


@pytest.mark.parametrize("k", [None, 3, 8])
def test_a_row_at_the_end_of_the_context_changes_no_other_row(ending, near_draft, k):
    plain = Engine(ending, Greedy())
    alone = [plain.generate([each])[0] for each in short_and_long(None)]
    assert [each.finish for each in alone] == ["length", "context", "context"]
    engine = Engine(ending, Greedy(), {"near": near_draft(ending, noise=0.02)})
    asked = short_and_long(None if k is None else DraftChoice("near", k))
    for batch_size in (1, 2, 3):
        found = engine.generate(asked, batch_size)
        assert tokens(found) == tokens(alone)
        assert any(step.drafted for each in found for step in each.steps) == (k is not None)


@pytest.mark.parametrize("drafting", [0, 1], ids=["the short one", "the long one"])
def test_one_row_may_draft_where_another_has_no_room(ending, near_draft, drafting):
    engine = Engine(ending, Greedy(), {"near": near_draft(ending, noise=0.02)})
    asked = short_and_long(None)[:2]
    asked[drafting] = replace(asked[drafting], draft=DraftChoice("near", 8))
    alone = [engine.generate([each])[0] for each in asked]
    assert tokens(engine.generate(asked, 2)) == tokens(alone)


def test_passes_are_timed_as_far_as_the_context_reaches(ending):
    model = CachedModel(ending.model, ending.head)
    cost = measure_target(model, prompts((20,))[0], 40, ending.context_length, repeats=1)
    assert len(cost.seconds) == CONTEXT - 20
    assert cost.verify_ratio(12) == pytest.approx(3 * cost.verify_ratio(4))
