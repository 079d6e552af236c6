"""The target run over training batches."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig

from taskspec.decoding.cached_model import CachedModel
from taskspec.models.loading import LanguageModel, load_language_model
from taskspec.training.batches import pack_texts
from taskspec.training.target_states import TargetStates

TEXTS = [
    [([3, 4, 5], [7, 8, 9, 10]), ([11], [12, 13])],
    [([60, 61, 62, 63, 64, 65, 66], [67, 68])],
]
BATCH = pack_texts(TEXTS)


def states_of(target: LanguageModel) -> TargetStates:
    return TargetStates(target.model, target.head)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_every_text_of_a_batch_is_read_by_itself(tiny_folder: Path, dtype: str) -> None:
    target = load_language_model(str(tiny_folder), dtype, "cpu")
    states = states_of(target).read(BATCH)
    decoder = target.in_float32().model.get_decoder()
    for row, first, (prompt, answer) in [
        (0, 0, TEXTS[0][0]),
        (0, 6, TEXTS[0][1]),
        (1, 0, TEXTS[1][0]),
    ]:
        text = torch.tensor([[*prompt, *answer[:-1]]])
        with torch.inference_mode():
            expected = decoder(input_ids=text).last_hidden_state[0]
        own = states[row, first : first + text.shape[1]].float()
        off = (own - expected).norm() / expected.norm()
        assert off < (1e-5 if dtype == "float32" else 0.05)


def test_a_target_in_16_bits_is_read_as_it_is_served(tiny_llama_folder: Path) -> None:
    target = load_language_model(str(tiny_llama_folder), "bfloat16", "cpu")
    read, served = states_of(target), CachedModel(target.model, target.head)
    states = read.read(BATCH)
    expected = served.forward([0], BATCH.tokens[1:, BATCH.segments[1] >= 0])
    assert torch.equal(states[1, : expected.shape[1]], expected[0])
    assert torch.equal(read.logits(expected[0]), served.head(expected[0]))
    assert torch.equal(read.read(BATCH), states), "a batch read before leaves nothing behind"


def test_running_rows_are_empty_again_and_copies_read_the_same_target(
    save_tiny: Callable[..., Path],
) -> None:
    """Of a size that the compiled kernels run, where they are."""
    folder = save_tiny(LlamaConfig, hidden_size=64, head_dim=16)
    read = states_of(load_language_model(str(folder), "bfloat16", "cpu"))
    running = read.running(torch.device("cpu"))
    running.forward([0], torch.tensor([[3, 4]]))
    assert copy.deepcopy(read).running(torch.device("cpu")) is running
    assert running.length(0) == 0
