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
from taskspec.decoding.records import DraftChoice, Generation, Request, StepRecord
from taskspec.interfaces import Proposal
from taskspec.models.loading import load_language_model
from taskspec.pipeline import speed
from taskspec.pipeline.speed import acceptance_steps, time_in_turn

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


class Clocked:
    """Answers at a second a pass, but for stalls, on a clock of its own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, stalls: dict[int, float]) -> None:
        self.now, self.answers, self.stalls = 0.0, 0, stalls
        monkeypatch.setattr(speed.time, "perf_counter", lambda: self.now)

    def generate(
        self, requests: Sequence[Request], on_emit: Any, correction: Any = None, memory: Any = None
    ) -> list[Generation]:
        (request,) = requests
        for _ in range(request.max_new_tokens):
            self.now += 1.0
            on_emit(request.id, [1])
        self.now += self.stalls.get(self.answers, 0.0)
        self.answers += 1
        steps = (StepRecord(0, 0, 1),) * (request.max_new_tokens - 1)
        return [Generation(request.id, (1,) * request.max_new_tokens, "length", steps)]


def test_ways_take_turns_and_where_one_stalled_all_are_timed_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    requests = [Request(str(count), PROMPT, count) for count in (4, 8, 6)]
    # A little slow, which stands; stalled; and slower when timed again.
    engine: Any = Clocked(monkeypatch, {0: 1.0, 4: 100.0, 5: 2.0, 7: 3.0})
    turns: list[tuple[str, str]] = []

    def way(name: str) -> Any:
        return lambda request: turns.append((name, request.id)) or request

    found = time_in_turn(engine, requests, {"a": way("a"), "b": way("b")})
    order = [("a", "4"), ("b", "4"), ("b", "8"), ("a", "8"), ("a", "6"), ("b", "6")]
    assert turns == [*order, ("a", "6"), ("b", "6")]
    assert [each.seconds for each in found["a"]] == [5.0, 8.0, 6.0]
    assert [each.seconds for each in found["b"]] == [4.0, 8.0, 8.0]
    assert {each.first for own in found.values() for each in own} == {1.0}


@pytest.mark.parametrize("stalls", [{0: 50.0}, {1: 50.0}, {1: 50.0, 2: 60.0}])
def test_of_two_answers_a_stalled_one_is_noticed(
    monkeypatch: pytest.MonkeyPatch, stalls: dict[int, float]
) -> None:
    requests = [Request(str(count), PROMPT, 4) for count in range(2)]
    engine: Any = Clocked(monkeypatch, stalls)
    found = time_in_turn(engine, requests, {"a": lambda request: request})
    shorter = 54.0 if len(stalls) == 2 else 4.0
    assert sorted(each.seconds for each in found["a"]) == [4.0, shorter]


def test_one_answer_has_nothing_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    engine: Any = Clocked(monkeypatch, {0: 50.0})
    found = time_in_turn(engine, [Request("0", PROMPT, 4)], {"a": lambda request: request})
    assert engine.answers == 1 and found["a"][0].seconds == 54.0
