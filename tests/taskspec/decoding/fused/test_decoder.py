"""Fused operators give the states that transformers gives.

They need a GPU, or `TRITON_INTERPRET=1` and Triton, which then runs them on a CPU, slowly.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
import torch
from taskspec_verifiers.greedy import Greedy
from torch import Tensor
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from taskspec.decoding.engine import Engine
from taskspec.decoding.fixed_shape import SWITCH
from taskspec.decoding.fused.decoder import FusedDecoder
from taskspec.decoding.records import DraftChoice, Request
from taskspec.decoding.row_cache import RowCache, Window

from ..conftest import TinyTarget, make_model

GPU = torch.cuda.is_available()
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
pytestmark = pytest.mark.gpu(interpreted=True)
DEVICE = torch.device("cuda" if GPU and not INTERPRETED else "cpu")
SHAPE = {
    "vocab_size": 96,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 2048,
}
MODELS: dict[str, Callable[[], Any]] = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SHAPE)),
    "llama, one head, width of no power": lambda: LlamaForCausalLM(
        LlamaConfig(**{**SHAPE, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 24})
    ),
    "qwen2, biased": lambda: Qwen2ForCausalLM(Qwen2Config(**SHAPE)),
    "qwen3, normed heads": lambda: Qwen3ForCausalLM(Qwen3Config(**SHAPE)),
    "mistral, sliding": lambda: MistralForCausalLM(MistralConfig(**SHAPE, sliding_window=7)),
}


def decoder_of(name: str, dtype: torch.dtype = torch.float32) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        decoder = MODELS[name]().eval().requires_grad_(False).get_decoder()
        for each, parameter in decoder.named_parameters():
            if parameter.ndim == 1:
                offset = 1.0 if "norm" in each else 0.0
                parameter.copy_(offset + 0.3 * torch.randn_like(parameter))
            else:
                parameter.mul_(4)
    return decoder.to(DEVICE, dtype)


def texts(width: int, *lengths: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(1, n, width, generator=generator).to(DEVICE) for n in lengths]


def window_at(cache: RowCache, starts: list[int], tokens: int, end: int) -> Window:
    """Rows 0, 1, ... in order, as passes of fixed shape have them."""
    cache.reserve(len(starts), end)
    rows = torch.arange(len(starts), device=DEVICE)[:, None]
    places = torch.tensor(starts, device=DEVICE)[:, None] + torch.arange(tokens, device=DEVICE)
    return Window(tuple(range(len(starts))), rows, places, end, True)


@torch.inference_mode()
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("tokens", [1, 5, 32])
@pytest.mark.parametrize(("end", "copied"), [(128, 0), (1024, 2**30)])
def test_states_are_those_of_transformers(
    name: str, tokens: int, end: int, copied: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("taskspec.decoding.fused.decoder._COPIED", copied)
    decoder = decoder_of(name)
    fused, cache = FusedDecoder(decoder), RowCache(3, 1, 16)
    lengths = [40, 3, 17]
    whole = texts(48, *(length + tokens for length in lengths))
    for row, (text, length) in enumerate(zip(whole, lengths, strict=True)):
        window = cache.open([row], length, DEVICE)
        cache.at(window)
        decoder(inputs_embeds=text[:, :length], position_ids=window.positions, cache=cache,
                attention_mask=mask(length, decoder))  # fmt: skip
        cache.lengths[row] = length
    new = torch.cat([text[:, length:] for text, length in zip(whole, lengths, strict=True)])
    found = fused.run(cache, window_at(cache, lengths, tokens, end), new, [3, 1])
    for row, text in enumerate(whole):
        expected = decoder(inputs_embeds=text, output_hidden_states=True).hidden_states
        wanted = torch.cat([expected[3][0, -tokens:], expected[1][0, -tokens:]], dim=-1)
        torch.testing.assert_close(found[row], wanted, rtol=1e-3, atol=1e-3)


def mask(length: int, decoder: Any) -> Any:
    """Which keys a text's tokens see, additive."""
    places = torch.arange(length, device=DEVICE)
    seen = places <= places[:, None]
    window = getattr(decoder.config, "sliding_window", None)
    if window:
        seen &= places > places[:, None] - window
    return torch.zeros(1, 1, length, length, device=DEVICE).masked_fill_(~seen, -torch.inf)


@torch.inference_mode()
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_sixteen_bits_round_as_transformers_does(name: str, dtype: torch.dtype) -> None:
    if INTERPRETED and dtype == torch.bfloat16:
        pytest.skip("Triton's interpreter computes with the bits of bfloat16")
    assert FusedDecoder(decoder_of(name, dtype)).reproduces()


@torch.inference_mode()
def test_rows_without_a_part_and_longer_ones_harm_nobody() -> None:
    decoder = decoder_of("mistral, sliding")
    fused, cache = FusedDecoder(decoder), RowCache(3, 2, 1024)
    (text,) = texts(48, 5)
    fused.run(cache, window_at(cache, [0, 900], 4, 1024), text[:, :4].expand(2, -1, -1), [3])
    found = fused.run(cache, window_at(cache, [4, 904], 1, 512), text[:, 4:].expand(2, -1, -1), [3])
    expected = decoder(inputs_embeds=text).last_hidden_state
    torch.testing.assert_close(found[0], expected[0, -1:], rtol=1e-3, atol=1e-3)
    assert found.isfinite().all()


@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
def test_answers_with_drafts_are_those_of_generate(
    architecture: str, near_draft: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FusedDecoder, "of", classmethod(lambda cls, decoder: cls(decoder)))
    monkeypatch.setenv(SWITCH, "1")
    target = TinyTarget(make_model(architecture).to(DEVICE))
    prompts = [tuple(2 + (3 * n + 5 * i) % 46 for i in range(n)) for n in (3, 11, 6)]
    choice = DraftChoice("near", 3)
    asked = [Request(str(n), each, 10, draft=choice) for n, each in enumerate(prompts)]
    engine = Engine(target, Greedy(), {"near": near_draft(target)})
    assert engine.model.fused is not None
    found = engine.generate(asked, 2)
    assert any(step.accepted for each in found for step in each.steps)
    for prompt, answer in zip(prompts, found, strict=True):
        text = torch.tensor([prompt], device=DEVICE)
        said = target.model.generate(
            text, max_new_tokens=10, do_sample=False, eos_token_id=1, pad_token_id=0
        )
        assert answer.tokens == tuple(said[0, len(prompt) :].tolist())


def test_where_kernels_cannot_be_compiled_transformers_runs_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if DEVICE.type != "cuda":
        pytest.skip("only a GPU asks for kernels")

    def fails(_: FusedDecoder) -> bool:
        raise RuntimeError("Failed to find C compiler.\nmore")

    monkeypatch.setattr(FusedDecoder, "reproduces", fails)
    with pytest.warns(UserWarning, match="Failed to find C compiler"):
        assert FusedDecoder.of(decoder_of("llama", torch.bfloat16)) is None


class Scaled(torch.nn.Module):
    """An MLP that no kernel knows of."""

    def __init__(self, mlp: Any) -> None:
        super().__init__()
        self.gate_proj, self.up_proj, self.down_proj = mlp.gate_proj, mlp.up_proj, mlp.down_proj

    def forward(self, states: Tensor) -> Tensor:
        return 3 * self.down_proj(self.gate_proj(states).relu() * self.up_proj(states))


@torch.inference_mode()
def test_an_architecture_that_only_looks_alike_is_left_to_transformers() -> None:
    decoder = decoder_of("llama")
    assert FusedDecoder(decoder).reproduces()
    for layer in decoder.layers:
        layer.mlp = Scaled(layer.mlp)
    assert not FusedDecoder(decoder).reproduces()
