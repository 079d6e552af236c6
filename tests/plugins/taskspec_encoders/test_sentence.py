"""Sentence embeddings, from a random BERT of two layers."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from taskspec_encoders.sentence import Sentence, SentenceOptions

from taskspec.errors import ModelError, PluginError

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


def test_a_catalog_model_of_another_kind_is_refused() -> None:
    pytest.importorskip("sentence_transformers")
    with pytest.raises(ModelError, match="not a sentence-encoder"):
        Sentence(SentenceOptions(model="smollm2-135m-instruct-q4_1")).fit(TEXTS)


def test_options_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="batch_size"):
        SentenceOptions(batch_size=0)
