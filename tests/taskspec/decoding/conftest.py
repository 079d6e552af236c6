"""Tiny random targets and drafts for the engine's tests."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from taskspec_drafters.causal_lm import CausalLM, CausalLMOptions
from torch import Tensor, nn
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

_SHAPE = {
    "vocab_size": 48,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}


@dataclass(frozen=True)
class TinyTarget:
    """An `interfaces.Target` around a random model."""

    model: Any
    eos_token_ids: frozenset[int] = frozenset({1})
    context_length: int = 256
    tokenizer: Any = None

    @property
    def vocabulary_size(self) -> int:
        return self.model.config.vocab_size

    @property
    def hidden_size(self) -> int:
        return self.model.config.hidden_size

    @property
    def device(self) -> torch.device:
        return self.model.device

    @property
    def dtype(self) -> torch.dtype:
        return self.model.dtype

    def head(self, hidden: Tensor) -> Tensor:
        return self.model.lm_head(hidden)


def make_model(architecture: str, seed: int = 0, **changes: Any) -> nn.Module:
    """A random model whose next-token distributions are neither flat nor certain."""
    shape = {**_SHAPE, **changes}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if architecture == "llama":
            model: Any = LlamaForCausalLM(LlamaConfig(**shape, tie_word_embeddings=False))
        elif architecture == "qwen2":
            model = Qwen2ForCausalLM(Qwen2Config(**shape, tie_word_embeddings=False))
        else:
            layers = ["sliding_attention", "full_attention", "sliding_attention"]
            config = Gemma3TextConfig(
                **shape,
                head_dim=8,
                sliding_window=6,
                layer_types=layers[: shape["num_hidden_layers"]],
                tie_word_embeddings=False,
            )
            model = Gemma3ForCausalLM(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                parameter.mul_(10 if "lm_head" in name else 3)
    return model.eval().requires_grad_(False)


@pytest.fixture(params=["llama", "qwen2", "gemma3"])
def architecture(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def device() -> torch.device:
    """Where targets are; tests that also hold on a GPU give it parameters of their own."""
    return torch.device("cpu")


@pytest.fixture
def target(architecture: str, device: torch.device) -> TinyTarget:
    return TinyTarget(make_model(architecture).to(device))


@pytest.fixture
def llama(device: torch.device) -> TinyTarget:
    return TinyTarget(make_model("llama").to(device))


def _near(model: Any, noise: float) -> nn.Module:
    """A copy with noise on its weights: agrees with the original often, not always."""
    draft = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in draft.parameters():
            spread = noise * parameter.std().item() if parameter.numel() > 1 else 0
            noisy = torch.randn(parameter.shape, generator=generator) * spread
            parameter.add_(noisy.to(parameter.device))
    return draft


@pytest.fixture
def near_draft() -> Callable[..., CausalLM]:
    """A drafter close to a target; `vocabulary` trims its output head."""

    def make(target: TinyTarget, noise: float = 0.1, vocabulary: Tensor | None = None) -> CausalLM:
        model: Any = _near(target.model, noise)
        if vocabulary is not None:
            head = nn.Linear(target.hidden_size, len(vocabulary), bias=False)
            head.weight = nn.Parameter(model.lm_head.weight[vocabulary].clone())
            model.set_output_embeddings(head)
        return CausalLM(CausalLMOptions(), model.requires_grad_(False), vocabulary)

    return make
