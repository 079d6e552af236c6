"""The engine: what comes out is the target's, whatever the drafts do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from engines import (
    device,  # noqa: F401
    prompts,
    requests,
    tokens,
)
from taskspec_drafters.prompt_lookup import PromptLookup
from taskspec_verifiers.greedy import Greedy
from taskspec_verifiers.rejection import Rejection
from torch import Tensor

from taskspec.decoding.cost import TargetCost
from taskspec.decoding.engine import Engine
from taskspec.decoding.pacing import Pace
from taskspec.decoding.records import DraftChoice, Request
from taskspec.errors import DecodingError
from taskspec.interfaces import Sampling


def reference(target: Any, prompt: Sequence[int], count: int) -> tuple[int, ...]:
    """Greedy decoding by transformers' own generate."""
    out = target.model.generate(
        torch.tensor([prompt], device=target.device),
        max_new_tokens=count,
        do_sample=False,
        eos_token_id=1,
        pad_token_id=0,
    )
    return tuple(out[0, len(prompt) :].tolist())


@pytest.mark.parametrize("batch_size", [1, 2, 6])
def test_plain_decoding_equals_generate(target, batch_size):
    expected = [reference(target, prompt, 24) for prompt in prompts()]
    assert tokens(Engine(target, Greedy()).generate(requests(), batch_size)) == expected


@pytest.mark.parametrize("batch_size", [1, 4])
@pytest.mark.parametrize("k", [1, 3, 6])
def test_greedy_speculation_equals_plain_decoding(target, near_draft, batch_size, k):
    plain = Engine(target, Greedy()).generate(requests())
    engine = Engine(target, Greedy(), {"near": near_draft(target)})
    drafted = engine.generate(requests(DraftChoice("near", k)), batch_size)
    assert tokens(drafted) == tokens(plain)
    accepted = sum(step.accepted for each in drafted for step in each.steps)
    refused = sum(step.drafted - step.accepted for each in drafted for step in each.steps)
    assert accepted > 0 and refused > 0, "the test needs both acceptance and rollback"


def test_rows_of_one_batch_may_use_different_drafts_lengths_and_none(llama, near_draft):
    trimmed = near_draft(llama, vocabulary=torch.arange(0, 48, 2))
    drafters = {"near": near_draft(llama), "trimmed": trimmed, "lookup": PromptLookup()}
    choices = [
        DraftChoice("near", 2),
        None,
        DraftChoice("lookup", 5),
        DraftChoice("trimmed", 3),
        DraftChoice("near", 4),
        DraftChoice("trimmed", 1),
    ]
    mixed = [replace(r, draft=c) for r, c in zip(requests(), choices, strict=True)]
    plain = Engine(llama, Greedy()).generate(requests())
    assert tokens(Engine(llama, Greedy(), drafters).generate(mixed, 6)) == tokens(plain)


class Changing(Pace):
    """Other draft lengths at every step."""

    def __init__(self) -> None:
        super().__init__(TargetCost((1.0,)), 0.0, {})
        self.steps: list[list[int]] = []

    def lengths(self, choices: Sequence[DraftChoice | None]) -> list[int]:
        step = len(self.steps)
        self.steps.append([(step + 2 * row) % 5 for row in range(len(choices))])
        return self.steps[-1]


def test_a_pace_shortens_drafts_and_changes_no_greedy_answer(target, near_draft):
    plain = Engine(target, Greedy()).generate(requests())
    pace = Changing()
    engine = Engine(target, Greedy(), {"near": near_draft(target)})
    drafted = engine.generate(requests(DraftChoice("near", 3)), batch_size=1, pace=pace)
    assert tokens(drafted) == tokens(plain)
    asked = [min(3, lengths[0]) for lengths in pace.steps]
    took = [step.drafted for each in drafted for step in each.steps]
    assert all(made <= limit for made, limit in zip(took, asked, strict=True)) and any(took)
    together = engine.generate(requests(DraftChoice("near", 3)), batch_size=4, pace=Changing())
    assert tokens(together) == tokens(plain)


@pytest.mark.parametrize("sampling", [Sampling(0.7), Sampling(1.0, top_k=5), Sampling(1.3, 0, 0.8)])
def test_a_sampled_row_does_not_depend_on_its_batch(llama, near_draft, sampling):
    drafters = {"near": near_draft(llama), "lookup": PromptLookup()}
    engine = Engine(llama, Rejection(), drafters)
    for choice in (None, DraftChoice("near", 3), DraftChoice("lookup", 3)):
        asked = requests(choice, sampling=sampling)
        alone = [engine.generate([request])[0] for request in asked]
        assert tokens(engine.generate(asked, 6)) == tokens(alone)


def test_the_seed_decides_a_sampled_answer(llama):
    engine = Engine(llama, Rejection())
    asked = requests(sampling=Sampling(1.0))
    assert tokens(engine.generate(asked)) == tokens(engine.generate(asked))
    other = [replace(request, seed=request.seed + 100) for request in asked]
    assert tokens(engine.generate(asked)) != tokens(engine.generate(other))


def test_decoding_leaves_the_global_generator_alone(llama, near_draft):
    state = torch.get_rng_state()
    engine = Engine(llama, Rejection(), {"near": near_draft(llama)})
    engine.generate(requests(DraftChoice("near", 3), sampling=Sampling(1.0)), 3)
    assert torch.equal(state, torch.get_rng_state())


def test_a_perfect_draft_is_accepted_whole_and_stays_in_step(llama, near_draft):
    engine = Engine(llama, Greedy(), {"same": near_draft(llama, noise=0.0)})
    for generation in engine.generate(requests(DraftChoice("same", 4), ignore_eos=True), 3):
        assert all(step.accepted == step.drafted for step in generation.steps)
        assert generation.steps[0].emitted == 5


def test_the_answer_is_cut_at_the_end_token_inside_an_accepted_run(llama, near_draft):
    plain = Engine(llama, Greedy()).generate(requests(ignore_eos=True))
    stop = plain[0].tokens[6]
    ended = replace_eos(llama, stop)
    engine = Engine(ended, Greedy(), {"same": near_draft(llama, noise=0.0)})
    cut = engine.generate(requests(DraftChoice("same", 5)))[0]
    first = plain[0].tokens.index(stop)
    assert cut.tokens == plain[0].tokens[: first + 1] and cut.finish == "eos"
    assert sum(step.emitted for step in cut.steps) == len(cut.tokens) - 1


def replace_eos(target: Any, token: int) -> Any:
    return replace(target, eos_token_ids=frozenset({token}))


@pytest.mark.parametrize("limit", [1, 2, 5])
def test_the_length_limit_is_exact(llama, near_draft, limit):
    engine = Engine(llama, Greedy(), {"near": near_draft(llama)})
    asked = requests(DraftChoice("near", 4), max_new_tokens=limit, ignore_eos=True)
    for generation in engine.generate(asked, 2):
        assert len(generation.tokens) == limit and generation.finish == "length"


def test_the_context_limit_ends_an_answer(llama, near_draft):
    short = replace(llama, context_length=16)
    engine = Engine(short, Greedy(), {"near": near_draft(llama)})
    asked = Request("a", prompts()[1], 24, draft=DraftChoice("near", 4), ignore_eos=True)
    generation = engine.generate([asked])[0]
    assert generation.finish == "context" and len(asked.prompt) + len(generation.tokens) == 16


def test_streamed_tokens_are_the_answer(llama, near_draft):
    engine = Engine(llama, Greedy(), {"near": near_draft(llama)})
    seen: dict[str, list[int]] = {}
    results = engine.generate(
        requests(DraftChoice("near", 3)), 2, lambda name, new: seen.setdefault(name, []).extend(new)
    )
    assert {result.id: list(result.tokens) for result in results} == seen


def test_kept_hidden_states_give_the_targets_distribution(llama):
    asked = requests(ignore_eos=True)
    for request, result in zip(
        asked, Engine(llama, Greedy(), keep_hidden=True).generate(asked, 3), strict=True
    ):
        text = torch.tensor([[*request.prompt, *result.tokens[:-1]]], device=llama.device)
        logits = llama.model(text).logits[0, len(request.prompt) - 1 :].cpu()
        found = llama.head(result.hidden.to(llama.device)).cpu()
        assert torch.allclose(found, logits, atol=1e-4)
        assert torch.allclose(result.log_normalizer, logits.logsumexp(-1), atol=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompt": ()}, "no tokens"),
        ({"max_new_tokens": 0}, "max_new_tokens"),
        ({"prompt": tuple([5] * 300)}, "context holds 256"),
        ({"draft": DraftChoice("absent", 2)}, "no draft named 'absent'"),
        ({"sampling": Sampling(1.0)}, "greedy decoding only"),
        ({"seed": 2**64}, "takes no seed 18446744073709551616"),
    ],
)
def test_impossible_requests_are_refused_before_work(llama, change, message):
    with pytest.raises(DecodingError, match=message):
        Engine(llama, Greedy()).generate([replace(requests()[0], **change)])


def test_all_that_cannot_be_decoded_is_told_at_once_by_name(llama):
    long, short = tuple([5] * 300), (5, 6)
    asked = [Request(f"r{n}", short if n % 2 else long, 8) for n in range(24)]
    with pytest.raises(DecodingError) as told:
        Engine(llama, Greedy()).check(asked)
    lines = str(told.value).splitlines()
    assert [line.partition(":")[0] for line in lines[:10]] == [
        f"request r{2 * n}" for n in range(10)
    ]
    assert lines[10:] == ["... and 2 more"]


def test_what_breaks_a_prompts_pass_leaves_nothing_for_later_requests(llama, monkeypatch):
    engine = Engine(llama, Greedy())
    plain = tokens(engine.generate(requests()))
    head = engine.model.head

    def interrupted(hidden: Tensor) -> Tensor:
        raise KeyboardInterrupt

    monkeypatch.setattr(engine.model, "head", interrupted)
    with pytest.raises(KeyboardInterrupt):
        engine.generate(requests(), 3)
    monkeypatch.setattr(engine.model, "head", head)
    assert tokens(engine.generate(requests())) == plain
