"""Passes of fixed shape give what passes of any shape give, also when they are replayed.

There is no GPU here: a graph is stood in for by the list of operators that its capture saw, run
again on the very same tensors. What a real graph would bake in, this one bakes in, too.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from taskspec_drafters.causal_lm import CausalLM, CausalLMOptions
from taskspec_verifiers.greedy import Greedy
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from taskspec.decoding import fixed_shape
from taskspec.decoding.cached_model import CachedModel
from taskspec.decoding.engine import Engine
from taskspec.decoding.records import DraftChoice, Request

from .conftest import TinyTarget, make_model


class Recorded(TorchDispatchMode):
    """Operators of a capture, with the tensors that they read and wrote."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any, Any]] = []
        self.replays = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, made))
        return made

    def replay(self) -> None:
        self.replays += 1
        for func, args, kwargs, made in self.calls:
            again = func(*args, **kwargs)
            for old, new in zip(tree_leaves(made), tree_leaves(again), strict=True):
                if isinstance(old, torch.Tensor) and old.numel():
                    old.copy_(new)


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Recorded]]:
    """Captures on the CPU, as they are made."""
    made: list[Recorded] = []

    def new() -> Recorded:
        made.append(Recorded())
        return made[-1]

    @contextlib.contextmanager
    def capture(graph: Recorded) -> Iterator[None]:
        assert not gc.isenabled(), "a graph freed meanwhile would break the capture"
        with graph:
            yield

    stream = SimpleNamespace(wait_stream=lambda _: None)
    cuda = fixed_shape.torch.cuda
    for name, stand_in in {
        "Stream": lambda: stream,
        "current_stream": lambda: stream,
        "stream": lambda _: contextlib.nullcontext(),
        "device": lambda _: contextlib.nullcontext(),
        "CUDAGraph": new,
        "graph": capture,
    }.items():
        monkeypatch.setattr(cuda, name, stand_in)
    monkeypatch.setenv(fixed_shape.SWITCH, "1")
    begin = fixed_shape.FixedPasses.__init__

    def capturing(self: Any, *arguments: Any) -> None:
        begin(self, *arguments)
        self._captures = True

    monkeypatch.setattr(fixed_shape.FixedPasses, "__init__", capturing)
    yield made


def texts(seed: int, *lengths: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(2, 48, (1, n), generator=generator) for n in lengths]


def whole(target: Any, text: torch.Tensor, count: int) -> torch.Tensor:
    """The last states of a text that is read at once."""
    return target.model.model(text).last_hidden_state[:, -count:]


def test_rows_of_any_order_and_length_get_their_own_states(target, graphs) -> None:
    model = CachedModel(target.model, target.head)
    first, second, third = texts(0, 40, 9, 4)
    for row, text in zip((2, 0, 3), (first, second, third), strict=True):
        model.forward([row], text)
    more = torch.cat(texts(1, 3, 3))
    for _ in range(3):
        states = model.forward([0, 2], more)
        for place, text in enumerate((second, first)):
            expected = whole(target, torch.cat([text, more[place : place + 1]], dim=1), 3)
            torch.testing.assert_close(states[place : place + 1], expected, rtol=1e-4, atol=1e-4)
        model.rollback(0, 9)
        model.rollback(2, 40)
    assert graphs and graphs[-1].replays >= 3
    expected = whole(target, torch.cat([third, more[:1]], dim=1), 3)
    torch.testing.assert_close(model.forward([3], more[:1]), expected, rtol=1e-4, atol=1e-4)


def test_a_cache_that_moves_is_captured_anew(llama, graphs) -> None:
    model = CachedModel(llama.model, llama.head, length=64)
    (text,) = texts(2, 200)
    for place in range(0, 200, 8):
        states = model.forward([0], text[:, place : place + 8])
    torch.testing.assert_close(states, whole(llama, text, 8), rtol=1e-4, atol=1e-4)
    other = texts(3, 8)[0]
    torch.testing.assert_close(
        model.forward([5], other), whole(llama, other, 8), rtol=1e-4, atol=1e-4
    )
    again = model.forward([0], other)
    expected = whole(llama, torch.cat([text, other], dim=1), 8)
    torch.testing.assert_close(again, expected, rtol=1e-4, atol=1e-4)


def test_an_answer_needs_few_captures(llama, near_draft, graphs) -> None:
    request = Request("0", tuple(texts(4, 12)[0][0].tolist()), 60, ignore_eos=True)
    plain = Engine(llama, Greedy()).generate([request])[0]
    assert len(graphs) <= 2 and sum(graph.replays for graph in graphs) >= 59
    graphs.clear()
    drafter = near_draft(llama)
    engine = Engine(llama, Greedy(), {"near": drafter})
    choice = DraftChoice("near", 3)
    drafted = engine.generate([Request("0", request.prompt, 60, draft=choice, ignore_eos=True)])
    assert drafted[0].tokens == plain.tokens
    assert any(step.accepted for step in drafted[0].steps)
    # The target over 1 to 4 tokens, the draft's whole loop after one token or two, or fewer steps.
    assert len(graphs) <= 12


def test_ends_of_prompts_share_a_capture(llama, graphs) -> None:
    asked = [
        Request(str(index), tuple(text[0].tolist()), 1)
        for index, text in enumerate(texts(5, 40, 41, 44, 47, 50, 52))
    ]
    prefixes = [each.prompt[:22] for each in asked]
    plain = Engine(llama, Greedy()).generate(asked)
    assert not graphs, "whole prompts are longer than any captured pass"
    engine = Engine(llama, Greedy(), prefixes=prefixes)
    for _ in range(2):
        assert [a.tokens for a in engine.generate(asked)] == [a.tokens for a in plain]
    assert len(graphs) == 1 and graphs[0].replays >= 2 * len(asked)


@pytest.mark.parametrize("trimmed", [False, True])
def test_a_loop_of_drafting_gives_what_single_steps_give(
    llama, near_draft, graphs, monkeypatch, trimmed
) -> None:
    vocabulary = torch.arange(1, 48, 2) if trimmed else None
    looped = near_draft(llama, vocabulary=vocabulary)
    monkeypatch.setenv(fixed_shape.SWITCH, "0")
    stepping = near_draft(llama, vocabulary=vocabulary)
    requests = [
        Request(str(n), tuple(text[0].tolist()), 24, draft=DraftChoice("d", 4), seed=n)
        for n, text in enumerate(texts(5, 6, 17, 11))
    ]
    expected = Engine(llama, Greedy(), {"d": stepping}).generate(requests, 3)
    monkeypatch.setenv(fixed_shape.SWITCH, "1")
    found = Engine(llama, Greedy(), {"d": looped}).generate(requests, 3)
    assert [each.tokens for each in found] == [each.tokens for each in expected]
    assert [each.steps for each in found] == [each.steps for each in expected]
    assert len(graphs) > 1


def test_a_draft_ends_where_it_becomes_unsure(llama, near_draft, graphs) -> None:
    base = near_draft(llama)
    sure = CausalLM(CausalLMOptions(stop_below=0.5), base.module, None)
    request = Request("0", (5, 6, 7), 40, draft=DraftChoice("d", 6), ignore_eos=True)
    steps = Engine(llama, Greedy(), {"d": sure}).generate([request])[0].steps
    assert {step.drafted for step in steps} - {6}, "some drafts end early"


def test_a_replay_that_gives_other_states_is_not_used(llama, graphs, monkeypatch) -> None:
    def broken(self: Recorded) -> None:
        self.calls[-1][-1].mul_(2.0)

    monkeypatch.setattr(Recorded, "replay", broken)
    model = CachedModel(llama.model, llama.head)
    text, more = texts(6, 40, 2)
    model.forward([0], text)
    with pytest.warns(UserWarning, match="without CUDA graphs"):
        states = model.forward([0], more)
    torch.testing.assert_close(
        states, whole(llama, torch.cat([text, more], dim=1), 2), rtol=1e-4, atol=1e-4
    )


@pytest.mark.gpu
@pytest.mark.filterwarnings("error:passes run without CUDA graphs")
def test_engines_that_are_gone_do_not_break_captures(near_draft) -> None:
    target = TinyTarget(make_model("llama").cuda())
    asked = [Request("0", (5, 6, 7), 24, draft=DraftChoice("near", 3), ignore_eos=True)]
    thresholds = gc.get_threshold()
    gc.set_threshold(1)
    try:
        for _ in range(3):
            Engine(target, Greedy(), {"near": near_draft(target)}).generate(asked)
    finally:
        gc.set_threshold(*thresholds)


def test_where_capturing_fails_passes_run_one_by_one(llama, graphs, monkeypatch) -> None:
    def fails(_: Any) -> Any:
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(fixed_shape.torch.cuda, "graph", fails)
    model = CachedModel(llama.model, llama.head)
    text, more = texts(7, 40, 2)
    model.forward([0], text)
    with pytest.warns(UserWarning, match="not permitted"):
        states = model.forward([0], more)
    expected = whole(llama, torch.cat([text, more], dim=1), 2)
    torch.testing.assert_close(states, expected, rtol=1e-4, atol=1e-4)
    model.rollback(0, 40)
    torch.testing.assert_close(model.forward([0], more), expected, rtol=1e-4, atol=1e-4)
