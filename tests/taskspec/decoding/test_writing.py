"""Texts that a model writes alone, several of different lengths together."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from taskspec.decoding.cached_model import CachedModel
from taskspec.decoding.writing import write_texts
from taskspec.interfaces import Sampling
from taskspec.models.loading import LanguageModel, load_language_model

PROMPTS = [[3, 4, 5, 6, 7], [40], [9, 9, 50, 60, 61, 62, 63, 64, 65, 66, 67, 68]]
COUNTS = [12, 7, 1]
SAMPLED = Sampling(temperature=0.7, top_k=20)


@pytest.fixture
def target(tiny_folder: Path) -> LanguageModel:
    return load_language_model(str(tiny_folder), device="cpu")


def written(
    target: LanguageModel,
    prompts: list[list[int]],
    counts: list[int],
    sampling: Sampling = SAMPLED,
    seed: int = 0,
    end_tokens: frozenset[int] = frozenset(),
    vocabulary: Tensor | None = None,
) -> list[list[int]]:
    head = target.head if vocabulary is None else lambda h: target.head(h)[..., vocabulary]
    model = CachedModel(target.model, head)
    generator = torch.Generator().manual_seed(seed)
    return write_texts(model, vocabulary, prompts, counts, sampling, generator, end_tokens)


@pytest.mark.parametrize("vocabulary", [None, torch.tensor([90, 3, 17, 44, 8])])
def test_greedy_texts_are_those_of_passes_without_a_cache(
    target: LanguageModel, vocabulary: Tensor | None
) -> None:
    for prompt, text in zip(
        PROMPTS, written(target, PROMPTS, COUNTS, Sampling(), vocabulary=vocabulary), strict=True
    ):
        whole = list(prompt)
        for token in text:
            with torch.no_grad():
                logits = target.model(torch.tensor([whole]), use_cache=False).logits[0, -1]
            best = (
                logits.argmax() if vocabulary is None else vocabulary[logits[vocabulary].argmax()]
            )
            assert token == best
            whole.append(token)


def test_texts_have_the_lengths_asked_for(target: LanguageModel) -> None:
    assert [len(text) for text in written(target, PROMPTS, COUNTS)] == COUNTS


def test_the_generator_decides(target: LanguageModel) -> None:
    state = torch.get_rng_state()
    first, again, other = (written(target, PROMPTS, COUNTS, seed=seed) for seed in (1, 1, 2))
    assert first == again != other
    assert torch.equal(torch.get_rng_state(), state)


def test_a_text_ends_with_the_first_end_token_and_the_others_go_on(target: LanguageModel) -> None:
    whole = written(target, PROMPTS, [30, 30, 30])
    end = whole[1][2]
    for text, cut in zip(
        whole, written(target, PROMPTS, [30, 30, 30], end_tokens=frozenset({end})), strict=True
    ):
        assert cut == (text[: text.index(end) + 1] if end in text else text)


def test_sampled_tokens_have_the_models_distribution(tiny_llama_folder: Path) -> None:
    target = load_language_model(str(tiny_llama_folder), device="cpu")
    vocabulary = torch.tensor([90, 3, 17])
    draws = 4000
    texts = written(target, [[5, 6]] * draws, [1] * draws, Sampling(1.0), vocabulary=vocabulary)
    with torch.no_grad():
        logits = target.model(torch.tensor([[5, 6]])).logits[0, -1, vocabulary]
    found = torch.tensor([sum(text == [int(v)] for text in texts) / draws for v in vocabulary])
    torch.testing.assert_close(found, logits.softmax(-1), rtol=0, atol=0.04)
