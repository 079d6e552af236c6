import json
import shutil
from dataclasses import dataclass

import pytest
import torch

from taskspec.errors import ModelError
from taskspec.models.fingerprint import model_fingerprint, tells_weights
from taskspec.models.loading import load_language_model


@dataclass
class Turn:
    role: str
    content: str


@pytest.fixture
def copied(tiny_llama_folder, tmp_path):
    return shutil.copytree(tiny_llama_folder, tmp_path / "copy")


def test_loaded_model_is_frozen_and_described(tiny_folder):
    model = load_language_model(str(tiny_folder), device="cpu")
    assert not model.model.training
    assert not any(parameter.requires_grad for parameter in model.model.parameters())
    assert (model.vocabulary_size, model.hidden_size, model.context_length) == (96, 32, 256)
    assert model.dtype == torch.float32 and 1 in model.eos_token_ids


def test_positions_that_depend_on_a_pass_are_not_used(tiny_folder):
    # Beyond the original context, longrope turns all of a batch by its longest text.
    model = load_language_model(str(tiny_folder), device="cpu")
    rope = {"rope_type": "longrope", "original_max_position_embeddings": 64}
    model.model.config.rope_parameters = rope
    assert model.context_length == 64
    model.model.config.rope_parameters = {"full_attention": rope}
    assert model.context_length == 64


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_head_of_final_hidden_states_gives_the_models_logits(tiny_folder, dtype):
    model = load_language_model(str(tiny_folder), dtype, "cpu")
    tokens = torch.tensor([[5, 9, 40, 41, 7, 8, 30, 31, 32, 33, 34]])
    with torch.inference_mode():
        hidden = model.model.get_decoder()(input_ids=tokens).last_hidden_state
        expected = model.model(input_ids=tokens).logits
    torch.testing.assert_close(model.head(hidden), expected)


def test_float32_computes_with_the_weights_that_are_served(tiny_folder):
    served = load_language_model(str(tiny_folder), "bfloat16", "cpu")
    exact = served.in_float32()
    assert exact.dtype == torch.float32 and served.dtype == torch.bfloat16
    assert exact.in_float32() is exact
    own = exact.model.state_dict()
    for name, weights in served.model.state_dict().items():
        torch.testing.assert_close(own[name], weights.float(), rtol=0, atol=0)
    assert exact.head(torch.ones(32)).dtype == torch.float32


def test_logits_caps_are_applied_by_the_head(save_tiny):
    from transformers import Gemma3TextConfig

    folder = save_tiny(Gemma3TextConfig, head_dim=8, final_logit_softcapping=2.0)
    model = load_language_model(str(folder), device="cpu")
    assert model.head(100 * torch.randn(3, 32)).abs().max() <= 2.0


def test_chat_prompt_ends_where_the_answer_begins(tiny_llama_folder):
    model = load_language_model(str(tiny_llama_folder), device="cpu")
    ids = model.chat_ids([Turn("user", "w1 w2")], "w9")
    assert model.tokenizer.decode(ids) == (
        "<|start|> system w9 <|end|> <|start|> user w1 w2 <|end|> <|start|> assistant"
    )


def test_own_system_message_stands(tiny_llama_folder):
    model = load_language_model(str(tiny_llama_folder), device="cpu")
    turns = [Turn("system", "w3"), Turn("user", "w1")]
    assert model.chat_ids(turns, "w9") == model.chat_ids(turns, None)


def test_free_text_begins_with_an_open_user_turn(tiny_llama_folder):
    model = load_language_model(str(tiny_llama_folder), device="cpu")
    prefix = model.free_text_prefix()
    assert model.tokenizer.convert_ids_to_tokens(prefix) == ["<|start|>", "user"]


def test_without_chat_template_plain_text_is_used(copied):
    (copied / "chat_template.jinja").unlink()
    model = load_language_model(str(copied), device="cpu")
    ids = model.chat_ids([Turn("user", "w1 w2")], None)
    assert model.tokenizer.convert_ids_to_tokens(ids) == ["w1", "w2"]
    assert model.free_text_prefix() == (0,)


def test_end_of_turn_of_the_chat_template_ends_answers(copied):
    template = (copied / "chat_template.jinja").read_text().replace("<|end|>", "<|start|>")
    (copied / "chat_template.jinja").write_text(template)
    model = load_language_model(str(copied), device="cpu")
    assert model.eos_token_ids == {1, 2}


def test_template_that_refuses_system_messages_is_told(copied):
    (copied / "chat_template.jinja").write_text("{{ raise_exception('no system role here') }}")
    model = load_language_model(str(copied), device="cpu")
    with pytest.raises(ModelError, match="chat template.*no system role here"):
        model.chat_ids([Turn("user", "w1")], "w9")


def test_fingerprint_follows_the_weights(copied):
    before = model_fingerprint(str(copied))
    assert load_language_model(str(copied), device="cpu").fingerprint == before
    from safetensors.torch import load_file, save_file

    state = load_file(copied / "model.safetensors")
    state["model.norm.weight"] += 1
    save_file(state, copied / "model.safetensors", {"format": "pt"})
    assert model_fingerprint(str(copied)) != before


@pytest.mark.parametrize("name", ["pytorch_model.bin", "tokenizer.model", "merges.txt"])
def test_fingerprint_follows_whatever_a_model_is_loaded_from(copied, name):
    before = model_fingerprint(str(copied))
    (copied / name).write_bytes(b"something else")
    assert model_fingerprint(str(copied)) != before


def test_recurrent_models_are_refused(save_tiny):
    from transformers import MambaConfig

    folder = save_tiny(MambaConfig, state_size=4)
    with pytest.raises(ModelError, match="cannot be rolled back"):
        load_language_model(str(folder), device="cpu")


@pytest.mark.parametrize("kind", ["linear_attention", "conv", "chunked_attention", "hybrid"])
def test_layers_the_engine_cannot_roll_back_are_refused_by_kind(copied, kind):
    config = json.loads((copied / "config.json").read_text())
    config |= {"layer_types": ["full_attention", kind] * 2}
    (copied / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=kind):
        load_language_model(str(copied), device="cpu")


def test_encoder_decoders_are_refused(tmp_path):
    from transformers import T5Config

    T5Config(vocab_size=96).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="encoder-decoder"):
        load_language_model(str(tmp_path), device="cpu")


def test_models_that_see_the_future_are_refused(tmp_path, tiny_tokenizer):
    from transformers import BertConfig, BertModel

    sizes = {"hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 64}
    model = BertModel(BertConfig(vocab_size=96, num_hidden_layers=2, **sizes))
    for parameter in model.parameters():
        if parameter.dim() == 2:
            torch.nn.init.normal_(parameter, 0, 0.3)
    model.save_pretrained(tmp_path)
    tiny_tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="causal"):
        load_language_model(str(tmp_path), device="cpu")


def test_unknown_name_gets_a_suggestion(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelError, match="did you mean 'smollm2-135m-instruct-q4_1'"):
        load_language_model("smollm2-135m-instruct-q4_2", device="cpu")


@pytest.mark.parametrize(("dtype", "device"), [("float99", "cpu"), ("float32", "cuda:99")])
def test_impossible_dtype_or_device_is_told(tiny_llama_folder, dtype, device):
    with pytest.raises(ModelError, match=f"{dtype}|{device}"):
        load_language_model(str(tiny_llama_folder), dtype, device)


def test_the_same_weights_have_one_digest_wherever_they_lie(copied, tiny_llama_folder):
    own = load_language_model(str(tiny_llama_folder), device="cpu")
    (copied / "notes.json").write_text("{}")
    other = load_language_model(str(copied), device="cpu")
    assert own.fingerprint != other.fingerprint and own.digest() == other.digest()
    with torch.no_grad():
        next(other.model.parameters())[0, 0] += 1
    assert own.digest() != other.digest()


@pytest.mark.parametrize("change", ["chat template", "configuration", "tokenizer"])
def test_what_reads_or_computes_otherwise_has_another_digest(copied, tiny_llama_folder, change):
    own = load_language_model(str(tiny_llama_folder), device="cpu")
    other = load_language_model(str(copied), device="cpu")
    if change == "chat template":
        other.tokenizer.chat_template += " "
    elif change == "configuration":
        other.model.config.rms_norm_eps *= 10
    else:
        from tokenizers.normalizers import Lowercase

        other.tokenizer.backend_tokenizer.normalizer = Lowercase()
    assert own.digest() != other.digest()


def test_a_hub_id_is_known_by_the_commit_that_was_loaded(copied, monkeypatch):
    places = iter([None, "/cache/models--some--model/snapshots/0123/config.json"])
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: next(places))
    monkeypatch.setattr("taskspec.models.loading.model_fingerprint", lambda _: "hub:some/model")
    assert load_language_model(str(copied), device="cpu").fingerprint == "hub:some/model"
    assert load_language_model(str(copied), device="cpu").fingerprint == "hub:some/model@0123"


def test_a_hub_id_alone_says_nothing_of_weights():
    assert not tells_weights("hub:some/model")
    assert tells_weights("hub:some/model@0123abcd") and tells_weights("0123abcd")


def test_files_without_some_weights_are_refused(copied):
    from safetensors.torch import load_file, save_file

    state = load_file(copied / "model.safetensors")
    del state["model.layers.1.mlp.up_proj.weight"]
    save_file(state, copied / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match="lack 1 of its weights, among them model.layers.1.mlp.up"):
        load_language_model(str(copied), device="cpu")


@pytest.mark.parametrize("damage", [b"version https://git-lfs.github.com/spec/v1\n", b""])
def test_weights_that_are_none_are_told(copied, damage):
    (copied / "model.safetensors").write_bytes(damage)
    with pytest.raises(ModelError, match="cannot be loaded as a causal language model"):
        load_language_model(str(copied), device="cpu")


def test_weights_of_another_shape_are_told(copied):
    from safetensors.torch import load_file, save_file

    state = load_file(copied / "model.safetensors")
    state["model.norm.weight"] = torch.ones(31)
    save_file(state, copied / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match="cannot be loaded as a causal language model"):
        load_language_model(str(copied), device="cpu")
