"""Prompts of three tasks that nobody can confuse, as texts and as vectors."""

from __future__ import annotations

import random

import numpy as np
from numpy.typing import NDArray

TASKS = 3
_PER_TASK = 20
_DIMENSIONS = 8
_WORDS = (
    ("invoice", "payment", "refund", "account", "balance", "transfer", "receipt", "billing"),
    ("python", "function", "compile", "variable", "syntax", "debugger", "recursion", "loop"),
    ("tomato", "simmer", "garlic", "oven", "recipe", "butter", "pepper", "roast"),
)
UNSEEN = ("zzyzx qwrtp", "Ωμέγα 漢字", "   ", "")


def toy_texts(seed: int = 0) -> tuple[list[str], NDArray[np.int64]]:
    """Sixty texts in random order with their tasks, int64 [60]."""
    generator = random.Random(seed)
    rows = [
        (f"Please {' '.join(generator.choices(words, k=6))} today", task)
        for task, words in enumerate(_WORDS)
        for _ in range(_PER_TASK)
    ]
    generator.shuffle(rows)
    return [text for text, _ in rows], np.array([task for _, task in rows], dtype=np.int64)


def toy_vectors(seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Unit vectors float32 [60, 8] around three directions, in the order of `toy_texts`."""
    _, labels = toy_texts(seed)
    generator = np.random.default_rng(seed)
    vectors = 0.08 * generator.standard_normal((len(labels), _DIMENSIONS))
    vectors[np.arange(len(labels)), labels] += 1
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype(np.float32), labels
