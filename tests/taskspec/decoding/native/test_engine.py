"""In bf16 on the kernels, drafts change no token: not in any batch, at any draft length."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from taskspec_drafters.causal_lm import CausalLM, CausalLMOptions
from taskspec_drafters.feature import Feature, FeatureOptions
from taskspec_drafters.feature_model import build_network
from taskspec_verifiers.greedy import Greedy
from taskspec_verifiers.rejection import Rejection

from taskspec.decoding.engine import Engine
from taskspec.decoding.native.library import kernels
from taskspec.decoding.records import DraftChoice, Request
from taskspec.interfaces import Drafter, Sampling

from ..conftest import TinyTarget, _near, make_model

pytestmark = pytest.mark.skipif(
    kernels() is None, reason="no AVX2 or no C++ compiler on this machine"
)
VOCABULARY = torch.tensor([7, 3, 40, *range(10, 36)])


@pytest.fixture(scope="module")
def target() -> TinyTarget:
    model: Any = make_model("llama", hidden_size=64, intermediate_size=96)
    return TinyTarget(model.bfloat16())


def causal_lm(
    target: TinyTarget, vocabulary: torch.Tensor | None = None, **options: Any
) -> CausalLM:
    model: Any = _near(target.model, 0.1)
    if vocabulary is not None:
        head = torch.nn.Linear(64, len(vocabulary), bias=False, dtype=torch.bfloat16)
        head.weight = torch.nn.Parameter(model.lm_head.weight[vocabulary].clone())
        model.set_output_embeddings(head)
    return CausalLM(CausalLMOptions(**options), model.requires_grad_(False), vocabulary)


def feature(target: TinyTarget, vocabulary: torch.Tensor | None = None, **options: Any) -> Feature:
    torch.manual_seed(1)
    network = build_network(target, vocabulary, train_head=False)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return Feature(FeatureOptions(**options), network, vocabulary)


DRAFTS: dict[str, Callable[[TinyTarget], Drafter]] = {
    "causal-lm": causal_lm,
    "causal-lm, some tokens": lambda target: causal_lm(target, VOCABULARY),
    "feature": feature,
    "feature, some tokens": lambda target: feature(target, VOCABULARY),
    "causal-lm, ending early": lambda target: causal_lm(target, VOCABULARY, stop_below=0.002),
    "feature, ending early": lambda target: feature(target, VOCABULARY, stop_below=0.002),
    "causal-lm, int8": lambda target: causal_lm(target, VOCABULARY, int8=True),
    "feature, int8": lambda target: feature(target, int8=True),
}


def requests(choice: DraftChoice | None, lengths: Sequence[int]) -> list[Request]:
    return [
        Request(str(i), tuple((5 * i + 7 * j) % 46 + 2 for j in range(n)), 20 + i, draft=choice)
        for i, n in enumerate(lengths)
    ]


@settings(deadline=None, max_examples=12)
@given(
    name=st.sampled_from(sorted(DRAFTS)),
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=5),
    k=st.integers(1, 6),
    batch=st.integers(1, 5),
)
def test_greedy_answers_are_those_of_plain_decoding(
    target: TinyTarget, name: str, lengths: list[int], k: int, batch: int
) -> None:
    drafted = Engine(target, Greedy(), {"draft": DRAFTS[name](target)}, keep_hidden=True)
    plain = Engine(target, Greedy(), keep_hidden=True).generate(requests(None, lengths))
    found = drafted.generate(requests(DraftChoice("draft", k), lengths), batch)
    assert [each.tokens for each in found] == [each.tokens for each in plain]
    for mine, theirs in zip(found, plain, strict=True):
        assert mine.hidden is not None and theirs.hidden is not None
        assert torch.equal(mine.hidden, theirs.hidden)


@pytest.mark.parametrize("name", [None, "causal-lm", "feature"])
def test_prefixes_that_were_read_before_change_no_bit(target: TinyTarget, name: str | None) -> None:
    drafters = {} if name is None else {"draft": DRAFTS[name](target)}
    choice = None if name is None else DraftChoice("draft", 3)
    asked = requests(choice, (30, 45, 17, 16, 60))
    prefixes = [asked[1].prompt[:n] for n in (16, 21, 44)]
    asked = [replace(each, prompt=(*prefixes[i % 3], *each.prompt)) for i, each in enumerate(asked)]
    whole = Engine(target, Greedy(), drafters, keep_hidden=True).generate(asked)
    pieced = Engine(target, Greedy(), drafters, keep_hidden=True, prefixes=prefixes)
    for _ in range(2):
        for mine, theirs in zip(pieced.generate(asked, 2), whole, strict=True):
            assert mine.tokens == theirs.tokens and mine.steps == theirs.steps
            assert mine.hidden is not None and theirs.hidden is not None
            assert torch.equal(mine.hidden, theirs.hidden)


@pytest.mark.parametrize("name", DRAFTS)
def test_drafting_in_one_call_drafts_what_steps_draft(
    target: TinyTarget, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = requests(DraftChoice("draft", 5), (3, 17, 8, 40, 5, 29, 11, 23))
    whole = Engine(target, Greedy(), {"draft": DRAFTS[name](target)}).generate(asked, 3)
    monkeypatch.setattr(
        "taskspec.decoding.cached_model.CachedModel.greedy_drafting", lambda *_: None
    )
    stepwise = Engine(target, Greedy(), {"draft": DRAFTS[name](target)}).generate(asked, 3)
    assert [each.steps for each in whole] == [each.steps for each in stepwise]
    assert any(step.accepted for each in whole for step in each.steps)


def test_rows_of_one_batch_may_draft_different_lengths(target: TinyTarget) -> None:
    engine = Engine(target, Greedy(), {"draft": causal_lm(target)})
    asked = [
        Request(each.id, each.prompt, 25, draft=DraftChoice("draft", k))
        for each, k in zip(requests(None, (9, 4, 12, 6)), (1, 5, 2, 3), strict=True)
    ]
    together = engine.generate(asked, 4)
    alone = [engine.generate([each])[0] for each in asked]
    assert [each.tokens for each in together] == [each.tokens for each in alone]
    assert [each.steps for each in together] == [each.steps for each in alone]


def test_sampled_answers_do_not_depend_on_their_batch(target: TinyTarget) -> None:
    engine = Engine(target, Rejection(), {"draft": causal_lm(target)})
    asked = [
        Request(each.id, each.prompt, 20, Sampling(1.0), seed=7, draft=DraftChoice("draft", 3))
        for each in requests(None, (9, 4, 12))
    ]
    together = engine.generate(asked, 3)
    assert [each.tokens for each in together] == [engine.generate([a])[0].tokens for a in asked]


@pytest.mark.parametrize("name", ["causal-lm, ending early", "feature, ending early"])
def test_a_draft_ends_where_it_is_unlikely_to_stand(target: TinyTarget, name: str) -> None:
    engine = Engine(target, Greedy(), {"draft": DRAFTS[name](target)})
    found = engine.generate(requests(DraftChoice("draft", 6), (3, 17, 8)))
    drafted = {step.drafted for each in found for step in each.steps[:-1]}
    assert len(drafted) > 2
