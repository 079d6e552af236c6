"""Which batches a draft writes itself, and what becomes of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from taskspec_aligners.kd import KD
from taskspec_drafters.causal_lm import CausalLM, CausalLMOptions

from taskspec.corpus.answers import StoredAnswer
from taskspec.interfaces import DraftCorpus
from taskspec.models.loading import LanguageModel, load_language_model
from taskspec.training.batches import AlignmentBatch, make_batch
from taskspec.training.data import progress_at
from taskspec.training.on_policy import OnPolicy, writes_itself
from taskspec.training.online_teacher import OnlineTeacher

LENGTHS = ((3, 9), (1, 6), (5, 1))
STEPS = 4000


class Sharing(KD):
    def __init__(self, share: Callable[[float], float]) -> None:
        super().__init__()
        self.share = share

    def student_share(self, progress: float) -> float:
        return self.share(progress)


@pytest.fixture
def target(tiny_llama_folder: Path) -> LanguageModel:
    return load_language_model(str(tiny_llama_folder), device="cpu")


def made(target: LanguageModel) -> AlignmentBatch:
    texts = [tuple(range(10 + p, 10 + 2 * p + a)) for p, a in LENGTHS]
    answers = [
        StoredAnswer("", text[:prompt], text[prompt:], True)
        for text, (prompt, _) in zip(texts, LENGTHS, strict=True)
    ]
    return make_batch(answers, target.head)


def policy(
    target: LanguageModel, share: Callable[[float], float] = lambda _: 1.0, seed: int = 0
) -> OnPolicy:
    drafter = CausalLM.build(target, DraftCorpus([], []), CausalLMOptions(layers=2, vocabulary=80))
    return OnPolicy(drafter, Sharing(share), OnlineTeacher(target), seed)


def chosen(policy: OnPolicy, batch: AlignmentBatch) -> list[bool]:
    places = [(step, progress_at(step, STEPS)) for step in range(STEPS)]
    return [policy.chooses(replace(batch, step=step, progress=at)) for step, at in places]


def test_the_share_of_own_batches_is_the_one_asked_for(target: LanguageModel) -> None:
    batch = made(target)
    rising = chosen(policy(target, lambda progress: 0.6 * progress), batch)
    quarters = [sum(rising[start : start + STEPS // 4]) for start in range(0, STEPS, STEPS // 4)]
    expected = [75, 225, 375, 525]
    assert quarters == pytest.approx(expected, abs=5 * 16)
    assert not any(chosen(policy(target, lambda _: 0.0), batch))
    assert all(chosen(policy(target), batch))


def test_seed_and_step_alone_decide(target: LanguageModel) -> None:
    batch = made(target)
    first, again, other = (chosen(policy(target, lambda _: 0.5, s), batch) for s in (1, 1, 2))
    assert first == again != other


def test_an_own_batch_keeps_the_prompts_and_is_no_longer_than_the_stored_one(
    target: LanguageModel,
) -> None:
    stored = made(target)
    texts, signal = policy(target).rewrite(stored, rank=0)
    kept = {*range(80), *target.eos_token_ids}
    for row, (prompt, answer) in enumerate(LENGTHS):
        assert torch.equal(texts.tokens[row, :prompt], stored.batch.tokens[row, :prompt])
        count = int(texts.trained[row].sum())
        assert 1 <= count <= answer
        assert set(texts.tokens[row, prompt : prompt + count - 1].tolist()) <= kept
    assert not torch.equal(texts.tokens, stored.batch.tokens)
    assert signal.tokens.shape[0] == int(texts.trained.sum())
    rescored = OnlineTeacher(target).signal(texts)
    assert torch.equal(signal.log_probs(None), rescored.log_probs(None))


def test_texts_differ_by_step_and_process_and_by_nothing_else(target: LanguageModel) -> None:
    batch, policies = made(target), [policy(target, seed=seed) for seed in (0, 1)]
    state = torch.get_rng_state()

    def texts(step: int, rank: int, seed: int) -> list[Any]:
        own = policies[seed].rewrite(replace(batch, step=step), rank)[0]
        found: list[Any] = own.tokens.tolist()
        return found

    places = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (1, 1, 0), (0, 0, 1)]
    each = [texts(*place) for place in places]
    assert each == [texts(*place) for place in places]
    assert all(a != b for i, a in enumerate(each) for b in each[:i])
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("training", [True, False])
def test_writing_leaves_the_module_as_it_was(target: LanguageModel, training: bool) -> None:
    own = policy(target)
    own.drafter.module.train(training)
    own.rewrite(made(target), rank=0)
    assert all(module.training is training for module in own.drafter.module.modules())


def test_a_training_that_asks_for_own_texts_anywhere_is_known() -> None:
    assert not writes_itself(Sharing(lambda _: 0.0), 10)
    assert writes_itself(Sharing(lambda progress: float(0.4 < progress < 0.5)), 10)
    assert writes_itself(Sharing(lambda progress: progress), 2)
