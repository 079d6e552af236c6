"""Feature drafts of a tiny target, with answers to train them on."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from drafts import SAMPLED, text
from taskspec_drafters.feature import Feature, FeatureOptions
from taskspec_verifiers.rejection import Rejection
from torch import Tensor

from taskspec.corpus.answers import StoredAnswer
from taskspec.decoding.engine import Engine
from taskspec.decoding.records import Request
from taskspec.interfaces import DraftCorpus, Sampling
from taskspec.models.loading import LanguageModel, load_language_model
from taskspec.training.batches import AlignmentBatch, make_batch
from taskspec.training.losses import forward_kl


@lru_cache
def answers_of(folder: str) -> tuple[StoredAnswer, ...]:
    """Answers sampled from the target, with its view of every token."""
    target = load_language_model(folder, device="cpu")
    requests = [
        Request(str(i), tuple(text(4 + i % 9, i)), 24, SAMPLED, seed=i, ignore_eos=True)
        for i in range(48)
    ]
    made = Engine(target, Rejection(), keep_hidden=True).generate(requests, 48)
    return tuple(
        StoredAnswer(one.id, asked.prompt, one.tokens, True, one.hidden, one.log_normalizer)
        for asked, one in zip(requests, made, strict=True)
    )


@lru_cache
def head_of(folder: str) -> Any:
    """The target's head in the dtype of the stored states, whatever the target runs in."""
    return load_language_model(folder, device="cpu").head


def drafter_for(target: LanguageModel, **options: Any) -> Feature:
    corpus = DraftCorpus([], [answer.answer_ids for answer in answers_of(target.source)])
    return Feature.build(target, corpus, FeatureOptions(**options))


def lesson(target: LanguageModel, first: int, count: int = 8) -> AlignmentBatch:
    return make_batch(answers_of(target.source)[first : first + count], head_of(target.source))


def train(target: LanguageModel, drafter: Feature, steps: int) -> None:
    """Learn from the first 40 answers by plain distillation."""
    drafter.module.requires_grad_(True).train()
    parameters = [each for each in drafter.module.parameters() if each.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=3e-3)
    for step in range(steps):
        made = lesson(target, 8 * (step % 5))
        logits = drafter.training_logits(made.batch, made.teacher)
        loss = forward_kl(logits, made.teacher.log_probs(drafter.vocabulary))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    drafter.module.requires_grad_(False).eval()


@lru_cache
def trained_module(folder: str, vocabulary: int, steps: int) -> Any:
    target = load_language_model(folder, device="cpu")
    drafter = drafter_for(target, vocabulary=vocabulary)
    train(target, drafter, steps)
    return drafter.module


def trained(target: LanguageModel, vocabulary: int = 0, steps: int = 100) -> Feature:
    """A drafter that has learnt enough to be accepted at times; its module must not change."""
    drafter = drafter_for(target, vocabulary=vocabulary)
    drafter.module = trained_module(target.source, vocabulary, steps)
    return drafter


@torch.inference_mode()
def states(target: LanguageModel, tokens: Sequence[int]) -> Tensor:
    decoder: Any = target.model
    found: Tensor = decoder.get_decoder()(torch.tensor([tokens]), use_cache=False)[0][0]
    return found


def begin(
    drafter: Feature,
    target: LanguageModel,
    tokens: Sequence[int],
    sampling: Sampling = SAMPLED,
    row: int = 0,
    adapter: str | None = None,
) -> Feature:
    drafter.start(row, tokens, sampling, states(target, tokens)[:-1], adapter)
    return drafter


def commit(
    drafter: Feature,
    target: LanguageModel,
    rows: Sequence[int],
    texts: Sequence[Sequence[int]],
    emitted: Sequence[Sequence[int]],
) -> None:
    """As the engine does: padded tokens, and the target's state at each token's predecessor."""
    width = max(map(len, emitted)) + 1
    tokens = torch.zeros(len(rows), width, dtype=torch.int64)
    hidden = torch.full((len(rows), width, target.hidden_size), 9.0)
    for index, (known, new) in enumerate(zip(texts, emitted, strict=True)):
        tokens[index, : len(new)] = torch.tensor(new)
        hidden[index, : len(new)] = states(target, [*known, *new])[len(known) - 1 : -1]
    drafter.commit(rows, tokens, torch.tensor([len(new) for new in emitted]), hidden)
