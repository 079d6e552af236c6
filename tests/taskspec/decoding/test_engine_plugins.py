"""Whatever a drafter or verifier does, greedy answers stay and who breaks the contract is named."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from engines import (
    device,  # noqa: F401
    prompts,
    requests,
    tokens,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from taskspec_drafters.prompt_lookup import PromptLookup
from taskspec_verifiers.greedy import Greedy
from taskspec_verifiers.rejection import Rejection
from torch import Tensor

from taskspec.decoding.cost import TargetCost
from taskspec.decoding.engine import Engine
from taskspec.decoding.pacing import Pace
from taskspec.decoding.records import DraftChoice
from taskspec.errors import PluginError
from taskspec.interfaces import Drafter, Proposal, Sampling, Verdict


class Babbler(Drafter):
    """Proposes made-up tokens, as adversarial as a drafter may be."""

    name = "babbler"

    def __init__(self, seed: int, too_many: bool = False) -> None:
        super().__init__()
        self.generator = torch.Generator().manual_seed(seed)
        self.too_many = too_many

    @classmethod
    def build(cls, target, corpus, options):
        return cls(0)

    @classmethod
    def load(cls, folder, target, options):
        return cls(0)

    def save(self, folder):
        pass

    def start(self, row, prompt, sampling, hidden=None, adapter=None):
        pass

    def propose(self, rows: Sequence[int], k: Sequence[int], noise: Tensor) -> Proposal:
        width = max(k) + self.too_many
        lengths = torch.tensor(
            [int(torch.randint(0, n + 1, (1,), generator=self.generator)) for n in k]
        )
        drafted = torch.randint(0, 48, (len(rows), width), generator=self.generator)
        return Proposal(drafted, torch.full_like(lengths, width) if self.too_many else lengths)

    def commit(self, rows, tokens, counts, hidden=None):
        pass

    def stop(self, row):
        pass


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), k=st.integers(1, 6), batch_size=st.integers(1, 6))
def test_no_drafter_can_change_a_greedy_answer(seed, k, batch_size):
    target = _shared_target()
    plain = _plain_answers()
    engine = Engine(target, Greedy(), {"babbler": Babbler(seed)})
    assert tokens(engine.generate(requests(DraftChoice("babbler", k)), batch_size)) == plain


_cache: dict[str, Any] = {}


def _shared_target() -> Any:
    if "target" not in _cache:
        from transformers import LlamaConfig, LlamaForCausalLM

        config = LlamaConfig(
            vocab_size=48,
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
        )
        with torch.random.fork_rng():
            torch.manual_seed(5)
            model = LlamaForCausalLM(config).eval().requires_grad_(False)

        class Target:
            eos_token_ids = frozenset({1})
            context_length = 256
            vocabulary_size = 48
            hidden_size = 16
            device = torch.device("cpu")
            dtype = torch.float32
            tokenizer = None

            def __init__(self) -> None:
                self.model = model
                self.head = model.lm_head

        _cache["target"] = Target()
    return _cache["target"]


def _plain_answers() -> list[tuple[int, ...]]:
    if "plain" not in _cache:
        _cache["plain"] = tokens(Engine(_shared_target(), Greedy()).generate(requests()))
    return _cache["plain"]


class Watched(Babbler):
    """Notes what it is asked."""

    def __init__(self) -> None:
        super().__init__(0)
        self.started: dict[int, list[int]] = {}
        self.calls: list[str] = []

    def start(self, row, prompt, sampling, hidden=None, adapter=None):
        assert row not in self.started, "started twice"
        self.started[row] = list(prompt)
        self.calls.append("start")

    def propose(self, rows: Sequence[int], k: Sequence[int], noise: Tensor) -> Proposal:
        assert all(row in self.started for row in rows)
        return super().propose(rows, k, noise)

    def commit(self, rows, tokens, counts, hidden=None):
        for row, new, count in zip(rows, tokens.tolist(), counts.tolist(), strict=True):
            self.started[row] += new[:count]

    def stop(self, row):
        self.calls.append("stop")
        del self.started[row]


class From(Pace):
    """Nothing is drafted before a step."""

    def __init__(self, first: int) -> None:
        super().__init__(TargetCost((1.0,)), 0.0, {})
        self.first, self.step = first, 0

    def lengths(self, choices: Sequence[DraftChoice | None]) -> list[int]:
        self.step += 1
        return [4 if self.step > self.first else 0] * len(choices)


def test_a_drafter_starts_when_it_first_drafts_and_with_all_that_was_said(llama):
    plain = tokens(Engine(llama, Greedy()).generate(requests(ignore_eos=True)))
    drafter = Watched()
    engine = Engine(llama, Greedy(), {"watched": drafter})
    asked = requests(DraftChoice("watched", 3), ignore_eos=True)
    assert tokens(engine.generate(asked, 6, pace=From(1000))) == plain
    assert not drafter.calls, "it never drafted"
    seen: dict[str, list[int]] = {}

    def note(name: str, new: Sequence[int]) -> None:
        seen.setdefault(name, []).extend(new)
        row = int(name)
        if row in drafter.started and len(seen[name]) < 24:
            assert drafter.started[row] == [*prompts()[row], *seen[name]]

    assert tokens(engine.generate(asked, 6, note, pace=From(5))) == plain
    assert sorted(drafter.calls) == ["start"] * 6 + ["stop"] * 6 and not drafter.started


def test_a_drafter_that_proposes_too_much_is_named(llama):
    engine = Engine(llama, Greedy(), {"babbler": Babbler(0, too_many=True)})
    with pytest.raises(PluginError, match="babbler.*more tokens than asked"):
        engine.generate(requests(DraftChoice("babbler", 2)))


class Padding(PromptLookup):
    """Pads what it copies with what is no token, or with an id too high in its first place."""

    def __init__(self, first: int | None = None) -> None:
        super().__init__()
        self.first = first

    def propose(self, rows: Sequence[int], k: Sequence[int], noise: Tensor) -> Proposal:
        made = super().propose(rows, k, noise)
        padded = torch.full((len(rows), max(k)), -1)
        for row, length in enumerate(made.lengths.tolist()):
            padded[row, :length] = made.tokens[row, :length]
            if self.first is not None and length:
                padded[row, 0] = self.first
        return Proposal(padded, made.lengths)


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(0.6)], ids=["greedy", "sampled"])
def test_what_a_drafter_pads_with_is_never_read(llama, sampling):
    def answers(drafter: Drafter) -> list[tuple[int, ...]]:
        engine = Engine(llama, Rejection(), {"padding": drafter})
        asked = requests(DraftChoice("padding", 4), sampling=sampling, ignore_eos=True)
        return tokens(engine.generate(asked, 6))

    assert answers(Padding()) == answers(PromptLookup())


def test_a_drafter_that_proposes_unknown_ids_is_named(llama):
    engine = Engine(llama, Greedy(), {"padding": Padding(first=48)})
    with pytest.raises(PluginError, match="prompt-lookup.*to 48, but the target knows 0 to 47"):
        engine.generate(requests(DraftChoice("padding", 2), ignore_eos=True))


def test_a_verifier_that_accepts_more_than_was_drafted_is_named(llama):
    class Generous(Greedy):
        def verify_greedy(self, tokens: Tensor, lengths: Tensor, *rest: Any) -> Verdict:
            return Verdict(lengths + 1, torch.zeros_like(lengths))

    engine = Engine(llama, Generous())
    with pytest.raises(PluginError, match="verifier 'greedy' accepted .* must not exceed lengths"):
        engine.generate(requests())
