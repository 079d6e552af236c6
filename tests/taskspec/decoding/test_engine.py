"""The engine: what comes out is the target's, whatever the drafts do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from taskspec_drafters.prompt_lookup import PromptLookup
from taskspec_verifiers.greedy import Greedy
from taskspec_verifiers.rejection import Rejection
from torch import Tensor

from taskspec.decoding import fixed_shape
from taskspec.decoding.cost import TargetCost
from taskspec.decoding.engine import Engine
from taskspec.decoding.pacing import Pace
from taskspec.decoding.records import DraftChoice, Generation, Request
from taskspec.errors import DecodingError, PluginError
from taskspec.interfaces import Drafter, Proposal, Sampling, Verdict

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


def tokens(generations: Sequence[Generation]) -> list[tuple[int, ...]]:
    return [generation.tokens for generation in generations]


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
    ],
)
def test_impossible_requests_are_refused_before_work(llama, change, message):
    with pytest.raises(DecodingError, match=message):
        Engine(llama, Greedy()).generate([replace(requests()[0], **change)])


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
