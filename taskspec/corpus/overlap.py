"""How much of the held-out prompts was seen in training."""

from __future__ import annotations

from collections.abc import Iterable, Iterator


def ngram_overlap(train: Iterable[str], held_out: Iterable[str], n: int = 8) -> float:
    """Share of the held-out texts' word n-grams that occur in a training text.

    Args:
        train: Training texts.
        held_out: Held-out texts.
        n: Words per n-gram.

    Returns:
        0 when no held-out text has n words.
    """
    seen = {gram for text in train for gram in _grams(text, n)}
    asked = [gram for text in held_out for gram in _grams(text, n)]
    return sum(gram in seen for gram in asked) / len(asked) if asked else 0.0


def _grams(text: str, n: int) -> Iterator[tuple[str, ...]]:
    words = text.lower().split()
    return (tuple(words[start : start + n]) for start in range(len(words) - n + 1))
