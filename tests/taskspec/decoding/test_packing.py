"""Packed weights give the same answers and leave the model as it was."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from taskspec.decoding.cached_model import CachedModel
from taskspec.decoding.native.linear import NativeLinear
from taskspec.decoding.packing import PackedLinear, can_pack, packed
from taskspec.models.loading import load_language_model
from taskspec.models.processor import onednn_multiplies_bf16

PACKED = (PackedLinear, NativeLinear)
needs_bf16 = pytest.mark.skipif(
    not can_pack(nn.Linear(2, 2, dtype=torch.bfloat16)), reason="the CPU multiplies no bf16"
)


@needs_bf16
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("tokens", [1, 3, 70])
def test_a_packed_layer_agrees_with_the_layer_to_rounding(bias: bool, tokens: int) -> None:
    linear = nn.Linear(64, 48, bias=bias, dtype=torch.bfloat16)
    inputs = torch.randn(2, tokens, 64, dtype=torch.bfloat16)
    with torch.inference_mode():
        found = packed(linear)(inputs)
        torch.testing.assert_close(found.bfloat16(), linear(inputs), rtol=0.02, atol=0.02)


@pytest.mark.skipif(not onednn_multiplies_bf16(), reason="oneDNN multiplies no bf16 here")
def test_without_the_kernels_pytorch_s_layers_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("taskspec.decoding.packing.kernels", lambda: None)
    linear = nn.Linear(64, 48, dtype=torch.bfloat16)
    assert isinstance(packed(linear), PackedLinear)
    inputs = torch.randn(3, 64, dtype=torch.bfloat16)
    with torch.inference_mode():
        torch.testing.assert_close(packed(linear)(inputs), linear(inputs), rtol=0.02, atol=0.02)


@needs_bf16
def test_a_packed_model_shares_everything_else_and_changes_nothing(tiny_folder: Path) -> None:
    model = load_language_model(str(tiny_folder), "bfloat16", "cpu").model
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    twin = packed(model)
    assert any(isinstance(module, PACKED) for module in twin.modules())
    assert not any(isinstance(module, PACKED) for module in model.modules())
    assert twin.get_input_embeddings().weight is model.get_input_embeddings().weight
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


@needs_bf16
def test_decoding_in_bf16_follows_the_model_s_own_logits(tiny_folder: Path) -> None:
    target = load_language_model(str(tiny_folder), "bfloat16", "cpu")
    model = CachedModel(target.model, target.head)
    tokens = torch.arange(4, 24)[None]
    with torch.inference_mode():
        first = model.head(model.forward([0], tokens[:, :19]))
        last = model.head(model.forward([0], tokens[:, 19:]))
        expected = target.model(tokens).logits
    ours = torch.cat([first, last], dim=1)
    scale = expected.float().abs().max()
    assert (ours.float() - expected.float()).abs().max() < 0.05 * scale


@pytest.mark.parametrize("make", [nn.Linear, lambda i, o: nn.Sequential(nn.Linear(i, o))])
def test_float32_stays_as_it_is(make: Callable[[int, int], nn.Module]) -> None:
    module = make(4, 4)
    assert packed(module) is module
