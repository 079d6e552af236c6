"""Attention in training batches: within a text, backwards, never empty."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import Gemma3TextConfig, LlamaConfig, MistralConfig

from taskspec.interfaces import TrainingBatch
from taskspec.models.loading import load_language_model
from taskspec.training.attention import attention_masks

WINDOW = 3
GEMMA = Gemma3TextConfig(
    num_hidden_layers=2,
    sliding_window=WINDOW,
    layer_types=["sliding_attention", "full_attention"],
)


def batch_of(rows: list[list[list[int]]], width: int) -> TrainingBatch:
    """Texts packed into rows, each row padded to `width`."""
    tokens = torch.zeros(len(rows), width, dtype=torch.int64)
    positions, segments = torch.zeros_like(tokens), torch.full_like(tokens, -1)
    for row, texts in enumerate(rows):
        start = 0
        for number, text in enumerate(texts):
            place = slice(start, start + len(text))
            tokens[row, place] = torch.tensor(text)
            positions[row, place] = torch.arange(len(text))
            segments[row, place] = number
            start += len(text)
    return TrainingBatch(tokens, positions, segments, segments >= 0)


def text(length: int, first: int) -> list[int]:
    return [2 + (first + 7 * index) % 90 for index in range(length)]


BATCH = batch_of([[text(4, 0), text(3, 5)], [text(5, 9)]], width=8)


def allowed(row: int, query: int, key: int, window: int = 99) -> bool:
    """Whether a real token may see another, said without tensors."""
    segments = BATCH.segments[row].tolist()
    return segments[query] == segments[key] and 0 <= query - key < window


def check(mask: Tensor, window: int = 99) -> None:
    assert mask.shape == (2, 1, 8, 8) and mask.dtype == torch.bool
    for row, query, key in ((r, q, k) for r in range(2) for q in range(8) for k in range(8)):
        if BATCH.segments[row, query] >= 0:
            assert mask[row, 0, query, key] == allowed(row, query, key, window)


def test_tokens_see_themselves_and_what_came_before_in_their_text() -> None:
    mask = attention_masks(BATCH, LlamaConfig())
    assert isinstance(mask, Tensor)
    check(mask)


@pytest.mark.parametrize("config", [LlamaConfig(), MistralConfig(sliding_window=WINDOW), GEMMA])
def test_no_token_sees_nothing(config: Any) -> None:
    masks = attention_masks(BATCH, config)
    for mask in masks.values() if isinstance(masks, dict) else [masks]:
        assert mask.any(-1).all()


def test_a_window_limits_how_far_back() -> None:
    mask = attention_masks(BATCH, MistralConfig(sliding_window=WINDOW))
    assert isinstance(mask, Tensor)
    check(mask, WINDOW)


def test_layers_that_differ_have_masks_of_their_own() -> None:
    masks = attention_masks(BATCH, GEMMA)
    assert isinstance(masks, dict)
    check(masks["full_attention"])
    check(masks["sliding_attention"], WINDOW)


def test_packed_and_padded_texts_have_the_hidden_states_they_have_alone(tiny_folder: Path) -> None:
    model: Any = load_language_model(str(tiny_folder), device="cpu").model
    decoder = model.get_decoder()
    texts = [text(14, 0), text(11, 40), text(17, 21)]
    batch = batch_of([texts[:2], texts[2:]], width=28)
    with torch.inference_mode():
        together = decoder(
            input_ids=batch.tokens,
            attention_mask=attention_masks(batch, decoder.config),
            position_ids=batch.positions,
            use_cache=False,
        ).last_hidden_state
        alone = [decoder(input_ids=torch.tensor([each])).last_hidden_state[0] for each in texts]
    found = together[batch.segments >= 0]
    torch.testing.assert_close(found, torch.cat(alone), rtol=1e-4, atol=1e-4)
