"""Answers that were served are copied from, and stay the target's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from engines import (
    device,  # noqa: F401
    requests,
    tokens,
)
from taskspec_drafters.suffix import Suffix
from taskspec_verifiers.greedy import Greedy
from taskspec_verifiers.rejection import Rejection
from torch import Tensor

from taskspec.decoding.answer_memory import AnswerMemory
from taskspec.decoding.engine import Engine
from taskspec.decoding.records import DraftChoice
from taskspec.interfaces import Sampling
from taskspec.testing.toy_verification import p_value


def remembering(target: Any) -> tuple[Engine, AnswerMemory]:
    suffix = Suffix()
    return Engine(target, Greedy(), {"suffix": suffix}), AnswerMemory({"suffix": [suffix]}, 1000)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_the_same_prompts_again_take_fewer_passes_and_get_the_same_answers(
    target: Any, batch_size: int
) -> None:
    plain = tokens(Engine(target, Greedy()).generate(requests()))
    engine, memory = remembering(target)
    asked = requests(DraftChoice("suffix", 4))
    first, again = (engine.generate(asked, batch_size, memory=memory) for _ in range(2))
    assert tokens(first) == tokens(again) == plain
    passes = [sum(len(each.steps) for each in found) for found in (first, again)]
    assert passes[1] < 0.7 * passes[0]
    memory.forget()
    forgotten = engine.generate(asked, batch_size)
    unknowing = remembering(target)[0].generate(asked, batch_size)
    assert [each.steps for each in forgotten] == [each.steps for each in unknowing]


def second_token(target: Any, prompt: Sequence[int], sampling: Sampling) -> Tensor:
    """The exact distribution [V] of an answer's second token."""

    def after(texts: list[list[int]]) -> Tensor:
        logits = target.model(torch.tensor(texts, device=target.device)).logits[:, -1]
        return logits.div(sampling.temperature).softmax(-1).double().cpu()

    with torch.inference_mode():
        first = after([list(prompt)])[0]
        return first @ after([[*prompt, token] for token in range(len(first))])


@pytest.mark.slow
def test_the_same_prompt_with_the_same_seed_again_is_still_answered_by_chance(llama: Any) -> None:
    """A draft proposes what the seed's noise drew before; other noise has to judge it."""
    sampling, suffix = Sampling(0.4), Suffix()
    engine = Engine(llama, Rejection(), {"suffix": suffix})
    memory = AnswerMemory({"suffix": [suffix]}, 1000)
    [asked] = requests(DraftChoice("suffix", 2), sampling=sampling, max_new_tokens=3)[:1]
    drawn, drafted = [], 0
    for seed in range(400):
        memory.forget()
        twice = [replace(asked, id=name, seed=seed, ignore_eos=True) for name in ("one", "two")]
        again = engine.generate(twice, memory=memory)[1]
        drawn.append(again.tokens[1])
        drafted += again.steps[0].drafted
    assert drafted > 100, "the second answer must be drafted from the first"
    assert p_value(torch.tensor(drawn), second_token(llama, asked.prompt, sampling)) > 1e-4


def test_an_answer_is_delivered_before_it_is_learnt_from(llama: Any) -> None:
    engine, memory = remembering(llama)
    told: list[str] = []

    class Broken(Suffix):
        def remember(self, answer, most):
            raise RuntimeError("out of room")

    broken = replace(memory, learners={"suffix": [Broken()]})
    with pytest.raises(RuntimeError, match="out of room"):
        engine.generate(
            requests(DraftChoice("suffix", 4)),
            on_finish=lambda done: told.append(done.id),
            memory=broken,
        )
    assert told == ["0"]


def test_a_twin_has_drafters_of_its_own_and_decodes_the_same(target: Any) -> None:
    engine, memory = remembering(target)
    twin = engine.beside({"suffix": Suffix()})
    asked = requests(DraftChoice("suffix", 4))
    engine.generate(asked, memory=memory)
    with_memory, without = engine.generate(asked), twin.generate(asked)
    assert tokens(with_memory) == tokens(without)
    assert sum(len(a.steps) for a in with_memory) < sum(len(b.steps) for b in without)
