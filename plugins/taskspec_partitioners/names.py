"""Names that mean the same task become one."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_GENERIC = frozenset({"task", "request", "kind", "type", "category", "ask", "asking", "problem"})
_ALIKE = 0.6
"""Cosine of two names' words from which on they are one name."""
_MIXED = 0.5
"""Mixing of two names' prompts from which on they are one task; 1 is by chance, 0 is apart."""
_FEWEST_TO_COMPARE = 3
_NEIGHBOURS = 5


def name_tasks(
    names: Sequence[str | None],
    vectors: NDArray[np.float32],
    min_share: float,
    max_tasks: int,
) -> tuple[list[str], NDArray[np.int64]]:
    """Turn free names into tasks.

    Names are compared by their telling words, then by their prompts: two names whose prompts are
    mixed in vector space are one task. What is still rare then is no task.

    Args:
        names: One per prompt; None where there is none.
        vectors: float32 [N, D], unit rows, one per prompt.
        min_share: Smallest share of the named prompts that makes a task; two at least.
        max_tasks: Only so many of the most frequent are kept.

    Returns:
        The tasks' names, the most frequent first, and int64 [N]: the task of each prompt, -1
        where it has no name or a rare one.
    """
    words = [name_words(name) if name else () for name in names]
    groups = _merge_mixed(_group_by_words(words), vectors)
    named = sum(map(len, groups.values()))
    fewest = max(2, math.ceil(min_share * named))
    kept = [name for name in groups if len(groups[name]) >= fewest][:max_tasks]
    labels = np.full(len(names), -1, dtype=np.int64)
    for label, name in enumerate(kept):
        labels[groups[name]] = label
    return [" ".join(name) for name in kept], labels


def name_words(name: str) -> tuple[str, ...]:
    """The telling words of a name: singular, without stop words and words like `task`.

    A name that has no others keeps them.
    """
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    words = tuple(map(_singular, name.lower().split()))
    telling = [w for w in words if w not in ENGLISH_STOP_WORDS and w not in _GENERIC]
    return tuple(dict.fromkeys(telling)) or words


def _singular(word: str) -> str:
    if word.endswith("ies") and len(word) > 4:
        return f"{word[:-3]}y"
    if word.endswith(("sses", "xes", "ches", "shes")):
        return word[:-2]
    if word.endswith("s") and len(word) > 3 and not word.endswith(("ss", "us", "is")):
        return word[:-1]
    return word


Groups = dict[tuple[str, ...], list[int]]


def _group_by_words(words: Sequence[tuple[str, ...]]) -> Groups:
    """Places of the prompts by name; a name joins the most frequent one that is like it."""
    counts = Counter(each for each in words if each)
    order = sorted(counts, key=lambda name: (-counts[name], name))
    spread = Counter(word for name in counts for word in set(name))
    weights = {word: 1 + math.log(len(counts) / count) for word, count in spread.items()}
    leaders: dict[tuple[str, ...], tuple[str, ...]] = {}
    for name in order:
        kept = [leader for leader in leaders if leaders[leader] == leader]
        alike = [leader for leader in kept if _cosine(name, leader, weights) >= _ALIKE]
        leaders[name] = alike[0] if alike else name
    groups: Groups = {}
    for place, name in enumerate(words):
        if name:
            groups.setdefault(leaders[name], []).append(place)
    return _sorted(groups)


def _cosine(one: Sequence[str], other: Sequence[str], weights: dict[str, float]) -> float:
    common = sum(weights[word] ** 2 for word in set(one) & set(other))
    lengths = [math.sqrt(sum(weights[word] ** 2 for word in set(each))) for each in (one, other)]
    return common / (lengths[0] * lengths[1])


def _merge_mixed(groups: Groups, vectors: NDArray[np.float32]) -> Groups:
    """Merge the two most mixed names until none are mixed; the more frequent name stays."""
    similarity = vectors @ vectors.T
    groups = dict(groups)
    while True:
        large = [name for name in groups if len(groups[name]) >= _FEWEST_TO_COMPARE]
        pairs = [(one, other) for i, one in enumerate(large) for other in large[i + 1 :]]
        mixings = [mixing(similarity, groups[one], groups[other]) for one, other in pairs]
        if not pairs or max(mixings) < _MIXED:
            return groups
        one, other = pairs[int(np.argmax(mixings))]
        groups[one] = groups[one] + groups.pop(other)
        groups = _sorted(groups)


def mixing(similarity: NDArray[np.float32], first: Sequence[int], second: Sequence[int]) -> float:
    """How mixed two sets of prompts are, by their nearest neighbours (Schilling 1986).

    Args:
        similarity: float32 [N, N].
        first: Places of the one set.
        second: Places of the other.

    Returns:
        The share of near neighbours that belong to the other set, relative to what chance gives:
        0 when the sets are apart, about 1 when nothing tells them apart.
    """
    places = np.array([*first, *second])
    side = np.repeat([0, 1], [len(first), len(second)])
    near = similarity[np.ix_(places, places)].copy()
    np.fill_diagonal(near, -np.inf)
    count = min(_NEIGHBOURS, len(places) - 1)
    neighbours = np.argsort(-near, axis=1, kind="stable")[:, :count]
    crossing = (side[neighbours] != side[:, None]).mean(axis=1)
    chance = np.array([len(second), len(first)]) / (len(places) - 1)
    return float(np.mean([crossing[side == each].mean() / chance[each] for each in (0, 1)]))


def _sorted(groups: Groups) -> Groups:
    return dict(sorted(groups.items(), key=lambda item: (-len(item[1]), item[0])))
