"""Prefixes are read once, and no answer shows it."""

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
from hypothesis import given
from hypothesis import strategies as st
from taskspec_drafters.prompt_lookup import PromptLookup
from taskspec_verifiers.greedy import Greedy
from taskspec_verifiers.rejection import Rejection
from torch import Tensor

from taskspec.decoding.cached_model import CachedModel
from taskspec.decoding.engine import Engine
from taskspec.decoding.prefixes import LEAST_TOKENS, shared_prefixes
from taskspec.decoding.records import DraftChoice, Request
from taskspec.interfaces import Sampling

HEAD = prompts((20,))[0]
INSTRUCTION = (*HEAD, *prompts((40,))[0][20:])
OTHER = (*HEAD[:17], *prompts((9,))[0])


def begun(draft: DraftChoice | None = None, **changes: Any) -> list[Request]:
    """Requests of which each begins in one of the ways that there are."""
    starts = [HEAD, INSTRUCTION, (), HEAD, OTHER, INSTRUCTION]
    return [
        replace(each, prompt=(*start, *each.prompt))
        for each, start in zip(requests(draft, **changes), starts, strict=True)
    ]


def engine(target: Any, *arguments: Any, **options: Any) -> Engine:
    return Engine(target, *arguments, prefixes=(HEAD, INSTRUCTION), **options)


@pytest.mark.parametrize("batch_size", [1, 2, 6])
def test_greedy_answers_are_those_of_an_engine_that_reads_everything(
    target, near_draft, batch_size
):
    expected = tokens(Engine(target, Greedy()).generate(begun()))
    near = {"near": near_draft(target), "lookup": PromptLookup()}
    own = engine(target, Greedy(), near)
    for choice in (None, DraftChoice("near", 3), DraftChoice("lookup", 4)):
        assert tokens(own.generate(begun(choice), batch_size)) == expected


def test_sampled_answers_too(llama, near_draft):
    asked = begun(DraftChoice("near", 3), sampling=Sampling(0.8, top_k=20))
    near = {"near": near_draft(llama)}
    expected = tokens(Engine(llama, Rejection(), near).generate(asked))
    assert tokens(engine(llama, Rejection(), near).generate(asked, 3)) == expected


def test_a_prefix_is_read_once(llama, monkeypatch):
    read: list[int] = []
    forward = CachedModel.forward_embeddings

    def watched(self: Any, rows: Any, embeddings: Tensor, counts: Any, *rest: Any) -> Tensor:
        read.append(len(rows) * embeddings.shape[1] if counts is None else sum(counts))
        return forward(self, rows, embeddings, counts, *rest)

    monkeypatch.setattr(CachedModel, "forward_embeddings", watched)
    own, asked = engine(llama, Greedy()), begun(max_new_tokens=1)
    own.generate(asked, 2)
    left = sum(len(each.prompt) for each in asked) - 2 * len(HEAD) - 2 * len(INSTRUCTION)
    assert sum(read) == left + len(HEAD) + len(INSTRUCTION)
    read.clear()
    own.generate(asked)
    assert sum(read) == left


def test_something_of_the_prompt_is_always_read(llama):
    asked = [
        Request("instruction", INSTRUCTION, 5),
        Request("head", HEAD, 5),
        Request("less", INSTRUCTION[:25], 5),
    ]
    expected = tokens(Engine(llama, Greedy()).generate(asked))
    assert tokens(engine(llama, Greedy()).generate(asked)) == expected
    assert tokens(engine(llama, Greedy()).generate(asked[1:])) == expected[1:]


class Reader(PromptLookup):
    """Drafts by lookup, and keeps the states that it was started with."""

    hidden_layers = (1, 3)

    def __init__(self) -> None:
        super().__init__()
        self.given: list[Tensor] = []

    def start(
        self,
        row: int,
        tokens: Sequence[int],
        sampling: Sampling,
        hidden: Tensor | None = None,
        adapter: str | None = None,
    ) -> None:
        assert hidden is not None
        self.given.append(hidden)
        super().start(row, tokens, sampling, hidden, adapter)


def test_a_drafter_that_reads_states_is_given_the_prefix_s_too(target):
    given = []
    for make in (Engine, engine):
        reader = Reader()
        made = make(target, Greedy(), {"reader": reader})
        made.generate(begun(DraftChoice("reader", 2)), 2)
        given.append(reader.given)
    for whole, pieced in zip(*given, strict=True):
        torch.testing.assert_close(pieced, whole)


def test_what_is_kept_of_answers_is_the_same(llama):
    whole = Engine(llama, Greedy(), keep_hidden=True).generate(begun())
    pieced = engine(llama, Greedy(), keep_hidden=True).generate(begun(), 3)
    for mine, theirs in zip(pieced, whole, strict=True):
        torch.testing.assert_close(mine.hidden, theirs.hidden)
        torch.testing.assert_close(mine.log_normalizer, theirs.log_normalizer)


def test_the_template_and_each_task_s_instruction_are_found():
    head, long, short = tuple(range(24)), tuple(range(100, 120)), tuple(range(200, 210))
    texts = [(*head, *part, n, 7, n) for part in (long, short, ()) for n in range(300, 330)]
    assert shared_prefixes(texts) == (head, (*head, *long))


def test_a_prompt_that_is_asked_again_and_again_makes_no_prefix():
    once = tuple(range(40))
    assert shared_prefixes([once] * 50) == ()
    assert shared_prefixes([]) == ()


def test_what_few_prompts_share_is_not_kept():
    texts = [tuple(range(1000 * n, 1000 * n + 30)) for n in range(100)]
    assert shared_prefixes([*texts, *((*texts[0], n) for n in range(3))]) == ()
    assert shared_prefixes([*texts, *((*texts[0], n) for n in range(9))]) == (texts[0],)


def test_all_prefixes_together_have_a_bound():
    long = [tuple(range(1000 * n, 1000 * n + 1000)) for n in range(12)]
    texts = [(*start, 99_999, n) for start in long for n in range(5)]
    assert len(shared_prefixes(texts)) == 8


PIECES = st.sampled_from([tuple(range(20)), tuple(range(50, 67)), (1, 2, 3), (9,)])


@given(st.lists(st.lists(PIECES, max_size=5).map(lambda parts: sum(parts, ())), max_size=30))
def test_every_prefix_saves_what_it_takes(texts: list[tuple[int, ...]]) -> None:
    found = shared_prefixes(texts)
    distinct = set(texts)
    assert len(set(found)) == len(found)
    for prefix in found:
        own = [text for text in distinct if text[: len(prefix)] == prefix]
        assert len(own) >= max(3, 0.05 * len(distinct))
        assert len({text[len(prefix) : len(prefix) + 1] for text in own}) > 1, "it could be longer"
        shorter = [len(p) for p in found if len(p) < len(prefix) and prefix[: len(p)] == p]
        assert len(prefix) - max(shorter, default=0) >= LEAST_TOKENS
