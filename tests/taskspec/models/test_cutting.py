import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from taskspec.errors import ModelError
from taskspec.models.cutting import (
    choose_layers,
    choose_vocabulary,
    cut_language_model,
    load_cut_model,
    save_cut_model,
)
from taskspec.models.loading import load_language_model

TOKENS = torch.tensor([[5, 9, 40, 41, 7, 8, 30, 31, 32, 33, 34, 35]])
CPU = torch.device("cpu")


def logits_of(model, tokens=TOKENS):
    with torch.inference_mode():
        return model(input_ids=tokens).logits


@given(st.integers(1, 60), st.data())
def test_chosen_layers_are_distinct_ascending_and_hold_both_ends(total, data):
    keep = data.draw(st.integers(1, total))
    layers = choose_layers(total, keep)
    assert len(layers) == keep and list(layers) == sorted(set(layers))
    assert layers[0] == 0 and (keep == 1 or layers[-1] == total - 1)


@pytest.mark.parametrize("keep", [0, 5])
def test_impossible_numbers_of_layers_are_told(keep):
    with pytest.raises(ModelError, match=f"{keep} of 4"):
        choose_layers(4, keep)


def test_frequent_tokens_are_kept_and_special_ones_always():
    vocabulary = choose_vocabulary([[7, 7, 7, 5], [5, 9]], 3, 20, always=[1])
    assert vocabulary.tolist() == [1, 5, 7] and vocabulary.dtype == torch.int64


def test_small_corpus_is_filled_up_with_the_lowest_ids():
    assert choose_vocabulary([[9]], 4, 20, always=[1]).tolist() == [0, 1, 2, 9]


def test_keeping_every_layer_changes_nothing(tiny_folder):
    target = load_language_model(str(tiny_folder), device="cpu").model
    cut = cut_language_model(target, range(4), None)
    torch.testing.assert_close(logits_of(cut), logits_of(target))


def test_number_of_layers_may_be_given(tiny_folder):
    target = load_language_model(str(tiny_folder), device="cpu").model
    by_number = cut_language_model(target, 2, None)
    by_index = cut_language_model(target, choose_layers(4, 2), None)
    torch.testing.assert_close(logits_of(by_number), logits_of(by_index))


def test_cutting_leaves_the_target_alone(tiny_folder):
    target = load_language_model(str(tiny_folder), device="cpu").model
    before = logits_of(target)
    cut = cut_language_model(target, (0, 3), torch.tensor([1, 5, 9]))
    for parameter in cut.parameters():
        parameter.data.zero_()
    torch.testing.assert_close(logits_of(target), before)
    assert target.config.num_hidden_layers == 4


def test_trimmed_head_gives_the_kept_columns(tiny_folder):
    target = load_language_model(str(tiny_folder), device="cpu").model
    vocabulary = torch.tensor([1, 5, 9, 40])
    whole = cut_language_model(target, (0, 3), None)
    trimmed = cut_language_model(target, (0, 3), vocabulary)
    torch.testing.assert_close(logits_of(trimmed), logits_of(whole)[..., vocabulary])


def test_cut_model_decodes_with_its_cache_as_without(tiny_folder):
    target = load_language_model(str(tiny_folder), device="cpu").model
    cut = cut_language_model(target, (1, 3), None)
    with torch.inference_mode():
        first = cut(input_ids=TOKENS[:, :-1], use_cache=True)
        last = cut(input_ids=TOKENS[:, -1:], cache=first.cache).logits
    torch.testing.assert_close(last, logits_of(cut)[:, -1:], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("vocabulary", [None, torch.tensor([1, 5, 9, 40])])
def test_saved_cut_model_reloads_with_the_same_logits(tiny_folder, tmp_path, vocabulary):
    target = load_language_model(str(tiny_folder), device="cpu").model
    cut = cut_language_model(target, (0, 2, 3), vocabulary)
    save_cut_model(cut, vocabulary, tmp_path)
    loaded, kept = load_cut_model(tmp_path, torch.float32, CPU)
    torch.testing.assert_close(logits_of(loaded), logits_of(cut))
    assert (kept is None) if vocabulary is None else torch.equal(kept, vocabulary)


def test_reloaded_draft_computes_in_bfloat16_what_the_cut_one_did(tiny_folder, tmp_path):
    target = load_language_model(str(tiny_folder), "bfloat16", "cpu").model
    cut = cut_language_model(target, (0, 3), None)
    save_cut_model(cut, None, tmp_path)
    loaded, _ = load_cut_model(tmp_path, torch.bfloat16, CPU)
    tokens = torch.arange(200)[None] % 90
    assert torch.equal(logits_of(loaded, tokens), logits_of(cut, tokens))


def test_folder_without_a_draft_is_told(tmp_path):
    with pytest.raises(ModelError, match="holds no draft"):
        load_cut_model(tmp_path, torch.float32, CPU)


def test_narrow_layers_keep_the_neurons_of_the_largest_weights(tiny_llama_folder, tmp_path):
    target = load_language_model(str(tiny_llama_folder), device="cpu").model
    with torch.no_grad():
        for layer in target.model.layers:
            layer.mlp.down_proj.weight[:, 1::2] = 0  # half of the neurons say nothing
    cut = cut_language_model(target, range(4), None, mlp_width=32)
    assert cut.model.layers[0].mlp.gate_proj.weight.shape == (32, 32)
    torch.testing.assert_close(logits_of(cut), logits_of(target))
    save_cut_model(cut, None, tmp_path)
    loaded, _ = load_cut_model(tmp_path, torch.float32, CPU)
    torch.testing.assert_close(logits_of(loaded), logits_of(cut))


def test_narrower_than_it_was_is_all_a_layer_can_be(tiny_folder):
    target = load_language_model(str(tiny_folder), device="cpu").model
    with pytest.raises(ModelError, match="mlp_width=65, but the target's MLP has 64 neurons"):
        cut_language_model(target, 2, None, mlp_width=65)


def test_cutting_and_loading_leave_the_global_generator_alone(tiny_folder, tmp_path):
    target = load_language_model(str(tiny_folder), device="cpu").model
    before = torch.get_rng_state()
    cut = cut_language_model(target, 2, torch.arange(40), mlp_width=16)
    save_cut_model(cut, torch.arange(40), tmp_path)
    load_cut_model(tmp_path, torch.float32, CPU)
    assert torch.equal(before, torch.get_rng_state())


def test_a_cut_of_a_model_that_was_watched_travels_to_other_processes(tiny_folder):
    target = load_language_model(str(tiny_folder), device="cpu").model
    target(input_ids=TOKENS, output_hidden_states=True)
    pickle.dumps(cut_language_model(target, 2, None))
