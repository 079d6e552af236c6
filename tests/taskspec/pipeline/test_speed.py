"""Acceptance is measured on the steps that say what a draft of the length can do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from taskspec_drafters.prompt_lookup import PromptLookup
from taskspec_verifiers.greedy import Greedy
from torch import Tensor

from taskspec.decoding.engine import Engine
from taskspec.decoding.records import DraftChoice, Request
from taskspec.interfaces import Proposal
from taskspec.models.loading import load_language_model
from taskspec.pipeline.speed import acceptance_steps

PROMPT = (5, 9, 40, 41)


class Knowing(PromptLookup):
    """Drafts the answer, which it knows."""

    def __init__(self, answer: Sequence[int]) -> None:
        super().__init__()
        self.answer, self.done = answer, 0

    def start(self, row: int, prompt: Sequence[int], *rest: Any) -> None:
        self.done = len(prompt) - len(PROMPT)

    def propose(self, rows: Sequence[int], k: Sequence[int], noise: Tensor) -> Proposal:
        drafted = torch.tensor([self.answer[self.done : self.done + k[0]]])
        return Proposal(drafted, torch.tensor([k[0]]))

    def commit(self, rows: Any, tokens: Tensor, counts: Tensor, hidden: Any = None) -> None:
        self.done += int(counts[0])


@pytest.mark.parametrize(("limit", "drafted"), [(48, [8] * 5), (9, [7])])
def test_steps_that_an_answers_limit_shortened_are_left_out(
    tiny_llama_folder: Path, limit: int, drafted: list[int]
) -> None:
    """Of 48 tokens the last two come in a step of their own, which says nothing of eight drafted.

    An answer shorter than a draft has no other steps.
    """
    target = load_language_model(str(tiny_llama_folder), device="cpu")
    request = Request("a", PROMPT, limit, ignore_eos=True)
    answer = Engine(target, Greedy()).generate([request])[0].tokens
    engine = Engine(target, Greedy(), {"knowing": Knowing(answer)})
    steps = acceptance_steps(engine, [request], DraftChoice("knowing", 1), 8, 1)["a"]
    assert [step.accepted for step in steps] == [step.drafted for step in steps] == drafted
