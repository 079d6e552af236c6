"""TF-IDF: unit vectors of what is to be done, without any model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from taskspec_encoders.tfidf import Tfidf, TfidfOptions

from taskspec.errors import CorpusError

TEXTS = [
    "Write a Python function that sorts a list.",
    "Write a Python function that reverses a string.",
    "Write a Python function that counts words.",
    "Translate into French: good morning!",
    "Translate into French: where is the station?",
    "Translate into French: thank you, friend!",
    "What is 3 plus 4?",
    "What is 12 plus 5?",
    "What is 7 plus 1,000?",
]


def fitted(texts: list[str] | None = None, **options: Any) -> Tfidf:
    encoder = Tfidf(TfidfOptions(**options))
    encoder.fit(TEXTS if texts is None else texts)
    return encoder


def test_rows_are_unit_vectors_of_the_dimensions_asked_for() -> None:
    vectors = fitted(dimensions=3).encode(TEXTS)
    assert vectors.shape == (9, 3)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)


def test_prompts_of_one_kind_lie_closer_than_prompts_of_two() -> None:
    vectors = fitted(dimensions=3).encode(TEXTS)
    kinds = np.repeat([0, 1, 2], 3)
    same = kinds[:, None] == kinds
    similar = vectors @ vectors.T
    assert similar[same].min() > similar[~same].max()


def test_texts_without_a_known_word_are_zero() -> None:
    vectors = fitted().encode(["zyzzyva quux", "", TEXTS[0]])
    assert not vectors[:2].any()
    assert vectors[2].any()


def test_no_texts_make_no_rows() -> None:
    assert fitted(dimensions=3).encode([]).shape == (0, 3)


def test_a_text_is_encoded_alike_alone_and_among_others() -> None:
    encoder = fitted()
    np.testing.assert_array_equal(encoder.encode(TEXTS)[4], encoder.encode([TEXTS[4]])[0])


def test_fitting_twice_gives_equal_vectors() -> None:
    np.testing.assert_array_equal(fitted().encode(TEXTS), fitted().encode(TEXTS))


def test_saved_and_loaded_it_gives_equal_vectors(tmp_path: Path) -> None:
    options = {"dimensions": 4, "stop_words": "english", "max_ngram": 1}
    encoder = fitted(**options)
    encoder.save(tmp_path)
    loaded = Tfidf.load(tmp_path, TfidfOptions(**options))
    texts = [*TEXTS, "Write in French what 99 is!", "zyzzyva"]
    np.testing.assert_array_equal(loaded.encode(texts), encoder.encode(texts))


def test_it_saves_json_and_safetensors_only(tmp_path: Path) -> None:
    fitted().save(tmp_path)
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".safetensors"}


@pytest.mark.parametrize("count", [1, 2, 3])
def test_fewer_texts_than_dimensions_are_enough(count: int) -> None:
    vectors = fitted(TEXTS[:count], dimensions=16).encode(TEXTS[:count])
    assert vectors.shape[1] <= 16
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize("texts", [[], [""], ["", " \n"]])
def test_a_corpus_without_words_is_refused(texts: list[str]) -> None:
    with pytest.raises(CorpusError, match=f"no words in the {len(texts)} prompts"):
        fitted(texts)


def test_numbers_are_one_word_unless_told_apart() -> None:
    pair = ["What is 7 plus 3?", "What is 12 plus 1,000?"]
    same = fitted().encode(pair)
    np.testing.assert_array_equal(same[0], same[1])
    apart = fitted(merge_numbers=False, min_documents=1, dimensions=8).encode(pair)
    assert not np.allclose(apart[0], apart[1])


def test_punctuation_counts_unless_left_out() -> None:
    pair = ["Translate into French: thank you", "Translate into French thank you!"]
    counted = fitted().encode(pair)
    assert not np.allclose(counted[0], counted[1])
    ignored = fitted(punctuation=False).encode(pair)
    np.testing.assert_array_equal(ignored[0], ignored[1])


def test_stop_words_count_unless_left_out() -> None:
    assert fitted().encode(["What is"]).any()
    assert not fitted(stop_words="english").encode(["What is"]).any()


def test_terms_in_few_texts_are_left_out() -> None:
    assert not fitted(min_documents=2).encode(["reverses"]).any()
    assert fitted(min_documents=1).encode(["reverses"]).any()


@pytest.mark.parametrize(
    "wrong",
    [
        {"dimensions": 0},
        {"max_ngram": 0},
        {"min_documents": 0},
        {"min_share": -0.1},
        {"min_share": 0.5, "max_share": 0.5},
        {"max_share": 1.5},
        {"stop_words": "klingon"},
    ],
)
def test_options_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong)).removeprefix("min_").split("_")[-1]):
        TfidfOptions(**wrong)
