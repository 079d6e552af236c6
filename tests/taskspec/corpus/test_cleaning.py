"""Cleaned texts: lower case, no special characters, no stop words."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

from taskspec.corpus.cleaning import clean_text


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("Write a SQL query!", "write sql query"),
        ("SELECT name\nFROM users_2024;", "select users 2024"),
        ("How many rolls are left? 33 - 22 = ?", "rolls left 33 22"),
        ("  Übersetze: «Größe» \t 漢字 ", "übersetze größe 漢字"),
        ("The baker's dozen", "baker dozen"),
        ("It isn't, and they’ll say we can't compile", "say compile"),
        ("", ""),
        ("?!", ""),
    ],
)
def test_what_is_left_of_a_text(text: str, cleaned: str) -> None:
    assert clean_text(text) == cleaned


def test_a_text_of_stop_words_alone_keeps_them() -> None:
    assert clean_text("What is it?") == "what is it"


def test_words_that_look_like_contractions_of_stop_words_stay() -> None:
    assert clean_text("shell wed hell") == "shell wed hell"


@given(st.text())
def test_cleaning_a_clean_text_changes_nothing(text: str) -> None:
    assert clean_text(clean_text(text)) == clean_text(text)


@given(st.lists(st.sampled_from(["the", "Is", "it's", "query", "Bread,", "(don't)", "x_y"])))
def test_stop_words_and_special_characters_are_gone_where_other_words_are(words: list[str]) -> None:
    cleaned = clean_text(" ".join([*words, "query"]))
    assert re.fullmatch(r"[a-z ]+", cleaned)
    assert not ENGLISH_STOP_WORDS & set(cleaned.split())
