"""The target's distribution comes back from what is stored of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from taskspec.errors import ModelError
from taskspec.models.loading import LanguageModel, load_language_model
from taskspec.training.batches import pad_texts
from taskspec.training.losses import acceptance
from taskspec.training.online_teacher import OnlineTeacher
from taskspec.training.teacher import (
    StoredTeacherSignal,
    TopKTeacherSignal,
    top_tokens,
)

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


def likely(log_p: Tensor, k: int) -> TopKTeacherSignal:
    """The k most likely tokens of given distributions."""
    top = top_tokens(log_p, log_p.logsumexp(-1), nn.Identity(), k)
    return TopKTeacherSignal(log_p.argmax(-1), top)


def random_log_probs(seed: int, tokens: int, scale: float = 3.0) -> Tensor:
    logits = torch.randn(6, tokens, generator=torch.Generator().manual_seed(seed)) * scale
    return logits.log_softmax(-1)


tokens_kept = st.tuples(st.integers(0, 10**6), st.integers(2, 30), st.integers(1, 30))


@settings(deadline=None)
@given(tokens_kept, st.floats(0.1, 20))
def test_likely_tokens_are_off_by_their_tail_at_most(
    case: tuple[int, int, int], scale: float
) -> None:
    seed, tokens, k = case
    log_p = random_log_probs(seed, tokens, scale)
    signal = likely(log_p, k)
    found = signal.log_probs(None)
    torch.testing.assert_close(found.exp().sum(-1), torch.ones(6))
    variation = (found.exp() - log_p.exp()).abs().sum(-1) / 2
    assert (variation <= signal.top.tail + 1e-5).all()
    draft = random_log_probs(seed + 1, tokens)
    error = acceptance(draft, found) - acceptance(draft, log_p)
    assert error.abs() <= signal.top.tail.mean() + 1e-5


@settings(deadline=None)
@given(tokens_kept)
def test_likely_tokens_themselves_are_exact_and_the_rest_share_the_tail_evenly(
    case: tuple[int, int, int],
) -> None:
    seed, tokens, k = case
    log_p = random_log_probs(seed, tokens)
    signal = likely(log_p, k)
    found, kept = signal.log_probs(None), signal.top.ids.long()
    torch.testing.assert_close(found.gather(1, kept), log_p.gather(1, kept))
    rest = torch.ones_like(found).scatter(1, kept, 0.0).bool()
    for row in range(6):
        shares = found[row, rest[row]].exp()
        if len(shares):
            expected = signal.top.tail[row] / len(shares)
            torch.testing.assert_close(shares, expected.expand_as(shares))


@settings(deadline=None)
@given(tokens_kept, st.integers(0, 9))
def test_likely_tokens_are_looked_up_by_target_id(case: tuple[int, int, int], order: int) -> None:
    seed, tokens, k = case
    signal = likely(random_log_probs(seed, tokens), k)
    shuffled = torch.randperm(tokens, generator=torch.Generator().manual_seed(order))
    vocabulary = shuffled[: 1 + tokens // 2]
    found, expected = signal.log_probs(vocabulary), signal.log_probs(None)[:, vocabulary]
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_likely_tokens_of_many_positions_are_those_of_the_model(tiny_llama_folder: Path) -> None:
    target = load_language_model(str(tiny_llama_folder), device="cpu")
    whole, k = stored(target), 5
    hidden = whole.hidden.repeat(9, 1)  # more positions than are looked at together
    top = top_tokens(hidden, whole.log_normalizer.repeat(9), target.head, k)
    expected = full_forward(target).repeat(9, 1).topk(k)
    assert torch.equal(top.ids.long(), expected.indices) and top.vocabulary_size == 96
    torch.testing.assert_close(top.log_probs, expected.values)
    torch.testing.assert_close(top.tail, 1 - expected.values.exp().sum(-1))


def test_likely_tokens_do_not_know_the_states() -> None:
    with pytest.raises(ModelError, match="set collect.signal to states or none"):
        _ = likely(random_log_probs(0, 8), 2).hidden


@pytest.mark.parametrize("vocabulary", [None, VOCABULARY])
def test_the_target_asked_at_once_says_what_is_stored_of_it(
    tiny_folder: Path, vocabulary: Tensor | None
) -> None:
    target = load_language_model(str(tiny_folder), device="cpu")
    texts = TOKENS.tolist()
    prompts, answers = [text[:3] for text in texts], [text[3:] for text in texts]
    prompts[1], answers[1] = texts[1][:11], texts[1][11:14]  # a shorter text is padded
    signal = OnlineTeacher(target).signal(pad_texts(prompts, answers))
    expected = full_forward(target).reshape(3, 20, -1)
    rows = [expected[0, 2:19], expected[1, 10:13], expected[2, 2:19]]
    log_p = torch.cat(rows)
    torch.testing.assert_close(
        signal.log_probs(vocabulary),
        log_p if vocabulary is None else log_p[:, vocabulary],
        rtol=1e-4,
        atol=1e-5,
    )
    assert torch.equal(signal.tokens, log_p.argmax(-1))


def test_the_target_asked_at_once_passes_on_what_the_answer_says(tiny_llama_folder: Path) -> None:
    teacher = OnlineTeacher(load_language_model(str(tiny_llama_folder), device="cpu"))
    said = torch.tensor([7, 8])
    assert teacher.signal(pad_texts([[3, 4]], [[7, 8]]), said).tokens is said


def test_a_signal_of_the_moment_can_take_part_in_training(tiny_llama_folder: Path) -> None:
    target = load_language_model(str(tiny_llama_folder), device="cpu")
    with torch.autocast("cpu", torch.bfloat16):
        signal = OnlineTeacher(target).signal(pad_texts([[3, 4, 5]], [[7, 8]]))
    exact = OnlineTeacher(target).signal(pad_texts([[3, 4, 5]], [[7, 8]]))
    assert torch.equal(signal.hidden, exact.hidden), "rounded by mixed-precision training"
    layer = nn.Linear(signal.hidden.shape[1], 3)
    (layer(signal.hidden).sum() + layer.weight.sum() * signal.log_probs(None).mean()).backward()
    assert layer.weight.grad is not None and not signal.hidden.requires_grad
