"""Texts reduced to the words that tell what they are about."""

from __future__ import annotations

import re

_WORD = re.compile(r"([^\W_]+)(?:['’]([^\W_]+))?")


def clean_text(text: str) -> str:
    """Lower-case a text, drop special characters and English stop words.

    The preprocessing before clustering of TaskSpec (arXiv 2505.08600). Digits and the letters of
    every script stay; contractions of stop words ("isn't", "it's") go with them. The stop words
    are scikit-learn's.

    Args:
        text: Any text.

    Returns:
        The words left, divided by single spaces; cleaned again it does not change. A text of stop
        words alone keeps them, because a prompt of no words has no place among the tasks.
    """
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS as STOP_WORDS

    every, telling = [], []
    for word, ending in _WORD.findall(text.lower()):
        whole = word if ending in ("", "s") else word + ending
        every.append(whole)
        negated = word[:-1] if ending == "t" and word.endswith("n") else word
        if STOP_WORDS.isdisjoint({whole, *((word, negated) if ending else ())}):
            telling.append(whole)
    return " ".join(telling or every)
