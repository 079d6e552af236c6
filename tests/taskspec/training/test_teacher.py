"""The target's distribution comes back from what is stored of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from taskspec.models.loading import LanguageModel, load_language_model
from taskspec.training.teacher import StoredTeacherSignal

TOKENS = (torch.arange(60).reshape(3, 20) * 7 + 3) % 94
VOCABULARY = torch.tensor([1, 5, 9, 40, 93])


def full_forward(target: LanguageModel) -> Tensor:
    """Log-probabilities [M, V] of the model itself."""
    with torch.inference_mode():
        logits: Tensor = target.model(input_ids=TOKENS, use_cache=False).logits
    return logits.flatten(0, 1).float().log_softmax(-1)


def stored(target: LanguageModel) -> StoredTeacherSignal:
    """What the engine keeps of the same positions."""
    with torch.no_grad():
        decoder = target.model.get_decoder()  # type: ignore[operator]
        hidden = decoder(input_ids=TOKENS, use_cache=False).last_hidden_state.flatten(0, 1)
        log_normalizer = target.head(hidden).float().logsumexp(-1)
    return StoredTeacherSignal(TOKENS.flatten(), hidden, log_normalizer, target.head)


@pytest.fixture
def soft_capped_folder(save_tiny: Callable[..., Path]) -> Path:
    """Gemma 3 whose head caps its logits."""
    from transformers import Gemma3TextConfig

    return save_tiny(Gemma3TextConfig, head_dim=8, final_logit_softcapping=2.0)


@pytest.mark.parametrize("vocabulary", [None, VOCABULARY])
def test_log_probabilities_are_those_of_a_full_forward(
    tiny_folder: Path, vocabulary: Tensor | None
) -> None:
    target = load_language_model(str(tiny_folder), device="cpu")
    expected = full_forward(target)
    found = stored(target).log_probs(vocabulary)
    torch.testing.assert_close(found, expected if vocabulary is None else expected[:, vocabulary])


@pytest.mark.parametrize("vocabulary", [None, VOCABULARY])
def test_a_soft_capped_head_caps_here_too(
    soft_capped_folder: Path, vocabulary: Tensor | None
) -> None:
    target = load_language_model(str(soft_capped_folder), device="cpu")
    expected = full_forward(target)
    found = stored(target).log_probs(vocabulary)
    torch.testing.assert_close(found, expected if vocabulary is None else expected[:, vocabulary])


def test_the_tail_is_missing_from_a_trimmed_vocabulary(tiny_llama_folder: Path) -> None:
    signal = stored(load_language_model(str(tiny_llama_folder), device="cpu"))
    rest = torch.tensor([token for token in range(96) if token not in VOCABULARY.tolist()])
    kept, tail = (signal.log_probs(ids).exp().sum(-1) for ids in (VOCABULARY, rest))
    assert (kept < 1).all() and torch.allclose(kept + tail, torch.ones(len(kept)), atol=1e-5)


def test_a_heads_bias_counts() -> None:
    head = nn.Linear(8, 30).requires_grad_(False)
    hidden = torch.randn(4, 8, generator=torch.Generator().manual_seed(0))
    logits = head(hidden)
    signal = StoredTeacherSignal(torch.zeros(4).long(), hidden, logits.logsumexp(-1), head)
    kept = torch.tensor([2, 7, 29])
    torch.testing.assert_close(signal.log_probs(kept), logits.log_softmax(-1)[:, kept])


@pytest.mark.parametrize("vocabulary", [None, VOCABULARY])
def test_mixed_precision_training_does_not_round_the_teacher(
    tiny_llama_folder: Path, vocabulary: Tensor | None
) -> None:
    signal = stored(load_language_model(str(tiny_llama_folder), device="cpu"))
    with torch.autocast("cpu", torch.bfloat16):
        found = signal.log_probs(vocabulary)
    assert found.dtype == torch.float32
    assert torch.equal(found, signal.log_probs(vocabulary))


def test_a_half_precision_target_is_matched_in_its_own_dtype(tiny_llama_folder: Path) -> None:
    target = load_language_model(str(tiny_llama_folder), "bfloat16", "cpu")
    found = stored(target).log_probs(None)
    assert found.dtype == torch.float32 and not found.requires_grad
    torch.testing.assert_close(found, full_forward(target), rtol=1e-5, atol=1e-5)
