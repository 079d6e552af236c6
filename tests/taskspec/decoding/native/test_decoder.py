"""The kernels compute what the model does, and a token's result depends on its text alone."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from transformers import (
    Gemma3TextConfig,
    GraniteConfig,
    LlamaConfig,
    MistralConfig,
    Qwen2Config,
    Qwen3Config,
)

from taskspec.decoding.native.decoder import NativeDecoder
from taskspec.decoding.native.library import kernels
from taskspec.decoding.native.linear import NativeLinear

pytestmark = pytest.mark.skipif(
    kernels() is None, reason="no AVX2 or no C++ compiler on this machine"
)
SIZES: dict[str, Any] = {
    "vocab_size": 96,
    "hidden_size": 96,
    "intermediate_size": 160,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 512,
}
ROPE = {"rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0, "low_freq_factor": 1.0}
ROPE |= {"high_freq_factor": 4.0, "original_max_position_embeddings": 64}
CONFIGS: dict[str, Callable[[], Any]] = {
    "llama": lambda: LlamaConfig(**SIZES),
    "llama, no grouping, wide heads": lambda: LlamaConfig(
        **SIZES | {"num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 80}
    ),
    "llama3 rope": lambda: LlamaConfig(**SIZES, rope_parameters=ROPE),
    "qwen2": lambda: Qwen2Config(**SIZES),
    "qwen3": lambda: Qwen3Config(**SIZES),
    "mistral, sliding": lambda: MistralConfig(**SIZES, sliding_window=24),
}


def make(config: Any) -> Any:
    """A random bf16 decoder, its biases and norms not at their first values."""
    from transformers import AutoModel

    torch.manual_seed(0)
    model = AutoModel.from_config(config, attn_implementation="sdpa", dtype=torch.bfloat16).eval()
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1:
            offset = 1.0 if "norm" in name else 0.0
            parameter.data.copy_(offset + 0.3 * torch.randn_like(parameter))
    return model


def embed(decoder: Any, tokens: Tensor) -> Tensor:
    embedded: Tensor = decoder.get_input_embeddings()(tokens)
    return embedded.detach()


@torch.inference_mode()
@pytest.mark.parametrize("name", CONFIGS)
def test_states_are_as_near_to_float32_as_the_model_s_own(name: str) -> None:
    decoder = make(CONFIGS[name]())
    native = NativeDecoder.of(decoder, 1, 16)
    assert native is not None
    tokens = torch.randint(0, 96, (2, 75))
    inputs = embed(decoder, tokens)
    found = native.run([3, 1], inputs, [75, 75], [0, 2])
    exact = copy.deepcopy(decoder).float()(inputs_embeds=inputs.float(), output_hidden_states=True)
    rounded = decoder(inputs_embeds=inputs, output_hidden_states=True)
    for place, layer in enumerate((-1, 0, 2)):
        truth = exact.hidden_states[layer]
        own = (rounded.hidden_states[layer].float() - truth).norm()
        assert (found[:, :, place].float() - truth).norm() <= own + 0.004 * truth.norm()


def run_in_pieces(native: NativeDecoder, row: int, inputs: Tensor, cuts: Sequence[int]) -> Tensor:
    """States of one text, run in pieces that end at the cuts."""
    ends = [*sorted(cuts), inputs.shape[1]]
    starts = [0, *ends[:-1]]
    parts = [
        native.run([row], inputs[:, a:b], [b - a])
        for a, b in zip(starts, ends, strict=True)
        if b > a
    ]
    return torch.cat(parts, dim=1)


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(0, 90), max_size=6), st.integers(0, 5), st.integers(1, 3))
def test_pieces_rows_and_threads_change_no_bit(cuts: list[int], row: int, threads: int) -> None:
    with torch.inference_mode():
        decoder = make(CONFIGS["qwen3"]())
        native = NativeDecoder.of(decoder, 1, 16)
        assert native is not None
        inputs = embed(decoder, torch.arange(90)[None] % 96)
        whole = native.run([0], inputs, [90])
        before = torch.get_num_threads()
        try:
            torch.set_num_threads(threads)
            native.lengths[0] = 0
            assert torch.equal(run_in_pieces(native, row, inputs, cuts), whole)
        finally:
            torch.set_num_threads(before)


@torch.inference_mode()
@pytest.mark.parametrize("window", [None, 700])
def test_keys_of_long_texts_are_read_in_stretches_and_no_bit_changes(window: int | None) -> None:
    decoder = make(
        MistralConfig(**SIZES | {"max_position_embeddings": 2048}, sliding_window=window)
    )
    native = NativeDecoder.of(decoder, 1, 16)
    assert native is not None
    inputs = embed(decoder, torch.randint(0, 96, (1, 1300)))
    whole = native.run([0], inputs, [1300])
    cuts = [500, 511, 512, 513, 519, 1024, 1026, 1291, 1299]
    assert torch.equal(run_in_pieces(native, 1, inputs, cuts), whole)
    found = whole[:, :, 0].float()
    truth = copy.deepcopy(decoder).float()(inputs_embeds=inputs.float()).last_hidden_state
    own = (decoder(inputs_embeds=inputs).last_hidden_state.float() - truth).norm()
    assert (found - truth).norm() <= own + 0.004 * truth.norm()


@torch.inference_mode()
def test_rows_of_other_lengths_in_one_pass_change_no_bit() -> None:
    decoder = make(CONFIGS["mistral, sliding"]())
    native = NativeDecoder.of(decoder, 4, 16)
    assert native is not None
    inputs = embed(decoder, torch.randint(0, 96, (3, 60)))
    alone = [
        native.run([0], inputs[i : i + 1, :n], [n])
        for i, n in enumerate((60, 7, 33))
        if not native.lengths.__setitem__(0, 0)
    ]
    native.lengths[0] = 0
    together = native.run([2, 0, 1], inputs, [60, 7, 33])
    for index, states in enumerate(alone):
        assert torch.equal(together[index : index + 1, : states.shape[1]], states)
    assert not together[1, 7:].any()
    assert [native.lengths[row] for row in (2, 0, 1)] == [60, 7, 33]


@torch.inference_mode()
def test_what_was_rolled_back_leaves_no_trace() -> None:
    decoder = make(CONFIGS["llama"]())
    native = NativeDecoder.of(decoder, 1, 16)
    assert native is not None
    inputs = embed(decoder, torch.randint(0, 96, (2, 40)))
    whole = native.run([0], inputs[:1], [40])
    native.lengths[0] = 20
    native.run([0], inputs[1:, 20:], [20])
    native.lengths[0] = 20
    assert torch.equal(native.run([0], inputs[:1, 20:], [20]), whole[:, 20:])


@torch.inference_mode()
def test_room_grows_and_keeps_what_is_there() -> None:
    decoder = make(CONFIGS["llama"]())
    native = NativeDecoder.of(decoder, 1, 16)
    assert native is not None
    inputs = embed(decoder, torch.randint(0, 96, (1, 400)))
    first = native.run([0], inputs[:, :10], [10])
    native.run([9], inputs, [400])
    rest = native.run([0], inputs[:, 10:], [390])
    native.lengths[0] = 0
    assert torch.equal(torch.cat([first, rest], dim=1), native.run([0], inputs, [400]))


@pytest.mark.parametrize(
    "config",
    [
        Gemma3TextConfig(**SIZES),
        GraniteConfig(**SIZES, residual_multiplier=0.3),
        LlamaConfig(**SIZES, hidden_act="gelu"),
        LlamaConfig(**SIZES, mlp_bias=True),
        LlamaConfig(**SIZES | {"head_dim": 8}),
        LlamaConfig(
            **SIZES, rope_parameters={"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}
        ),
    ],
    ids=["gemma3", "residual multiplier", "gelu", "mlp bias", "narrow heads", "dynamic rope"],
)
def test_what_the_kernels_do_not_compute_is_left_to_transformers(config: Any) -> None:
    assert NativeDecoder.of(make(config), 1, 16) is None


def test_float32_is_left_to_transformers() -> None:
    assert NativeDecoder.of(make(CONFIGS["llama"]()).float(), 1, 16) is None


@torch.inference_mode()
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("outputs", [1, 31, 48, 64, 100])
def test_a_linear_layer_gives_float32_sums(outputs: int, bias: bool) -> None:
    linear = nn.Linear(64, outputs, bias=bias, dtype=torch.bfloat16)
    inputs = torch.randn(21, 64, dtype=torch.bfloat16)
    found = NativeLinear(linear)(inputs)
    torch.testing.assert_close(found, linear.float()(inputs.float()), rtol=1e-5, atol=1e-5)


@torch.inference_mode()
def test_a_linear_layer_s_rows_do_not_depend_on_each_other() -> None:
    native = NativeLinear(nn.Linear(64, 70, dtype=torch.bfloat16))
    inputs = torch.randn(21, 64, dtype=torch.bfloat16)
    whole = native(inputs)
    for count in (1, 2, 5, 8, 13):
        assert torch.equal(torch.cat([native(part) for part in inputs.split(count)]), whole)


@torch.inference_mode()
@pytest.mark.parametrize("outputs", [1, 48, 100])
def test_a_byte_per_weight_rounds_each_to_its_output_s_nearest_level(outputs: int) -> None:
    linear = nn.Linear(64, outputs, dtype=torch.bfloat16)
    inputs = torch.randn(21, 64, dtype=torch.bfloat16)
    weight = linear.weight.float()
    step = weight.abs().amax(dim=1, keepdim=True) / 63
    rounded = (weight / step).round() * step
    expected = nn.functional.linear(inputs.float(), rounded, linear.bias.float())
    found = NativeLinear(linear, int8=True)(inputs)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@torch.inference_mode()
def test_a_row_of_zeros_stays_zero_in_bytes() -> None:
    linear = nn.Linear(64, 3, bias=False, dtype=torch.bfloat16)
    linear.weight[1] = 0
    found = NativeLinear(linear, int8=True)(torch.randn(2, 64, dtype=torch.bfloat16))
    assert not found[:, 1].any() and found[:, 0].all()


@torch.inference_mode()
@pytest.mark.parametrize("name", CONFIGS)
def test_states_from_bytes_are_near_those_from_bf16(name: str) -> None:
    decoder = make(CONFIGS[name]())
    native, small = NativeDecoder.of(decoder, 1, 16), NativeDecoder.of(decoder, 1, 16, int8=True)
    assert native is not None and small is not None
    inputs = embed(decoder, torch.randint(0, 96, (2, 75)))
    states, rounded = (n.run([3, 1], inputs, [75, 75]).float() for n in (native, small))
    difference = (rounded - states).norm() / states.norm()
    assert 0 < difference < 0.05
