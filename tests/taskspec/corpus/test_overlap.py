"""The share of held-out n-grams that were seen in training."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskspec.corpus.overlap import ngram_overlap

texts = st.lists(st.text("ab ", max_size=20), max_size=5)


def test_counts_n_grams_of_words_whatever_their_case_and_spacing():
    assert ngram_overlap(["a  B c d"], ["b c x", "A b c"], n=2) == 3 / 4


def test_n_grams_do_not_reach_across_texts():
    assert ngram_overlap(["a b", "c d"], ["b c"], n=2) == 0


@pytest.mark.parametrize("held_out", [[], ["too short"]])
def test_is_nothing_when_there_is_nothing_to_compare(held_out):
    assert ngram_overlap(["one two three four five six seven eight"], held_out) == 0


@settings(deadline=None)
@given(texts, texts)
def test_is_a_share_and_grows_with_the_training_texts(train, held_out):
    overlap = ngram_overlap(train, held_out, n=2)
    assert 0 <= overlap <= ngram_overlap([*train, *held_out], held_out, n=2) <= 1


@settings(deadline=None)
@given(texts)
def test_is_all_when_everything_was_seen(held_out):
    expected = 1 if any(len(text.split()) >= 2 for text in held_out) else 0
    assert ngram_overlap(iter(held_out), iter(held_out), n=2) == expected
