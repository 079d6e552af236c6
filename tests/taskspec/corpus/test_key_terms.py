"""Names of tasks."""

from __future__ import annotations

import numpy as np

from taskspec.corpus.key_terms import key_terms

COOK = ["Kindly bake bread slowly.", "Kindly bake bread with seeds.", "Kindly bake a cake."]
CODE = ["Kindly sort python lists.", "Kindly sort python tuples.", "Kindly sort numbers."]


def names(*groups: list[str], per_task: int = 2) -> list[str]:
    """Names of groups of texts, labelled in their order."""
    labels = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
    return key_terms([text for group in groups for text in group], labels, per_task)


def test_the_words_that_set_a_task_apart_name_it() -> None:
    assert names(COOK, CODE) == ["bake-bread", "sort-python"]
    assert names(CODE, COOK) == ["sort-python", "bake-bread"]


def test_words_that_all_tasks_share_come_last() -> None:
    assert names(["Kindly bake."], ["Kindly sort."]) == ["bake-kindly", "sort-kindly"]


def test_a_word_counts_once_a_text() -> None:
    loud = ["sort sort sort sort", "rank lists", "rank lists"]
    assert names(loud, COOK, per_task=1)[0] in ("rank", "lists")


def test_tasks_with_the_same_words_get_different_names() -> None:
    assert len(set(names(COOK, COOK, COOK))) == 3


def test_texts_without_words_are_numbered() -> None:
    assert names(["1 2", "3"], ["+"]) == ["task-0", "task-1"]


def test_noise_names_no_task() -> None:
    texts = [*COOK, *CODE, "zebra zebra", "zebra"]
    labels = np.array([0] * 3 + [1] * 3 + [-1] * 2)
    assert key_terms(texts, labels) == ["bake-bread", "sort-python"]


def test_a_task_is_named_only_by_words_it_contains() -> None:
    assert names(["cats purr"], ["12 34"]) == ["cats-purr", "task-1"]
    assert key_terms(["cats", "dogs"], np.array([-1, 0])) == ["dogs"]


def test_an_empty_task_is_numbered_and_no_task_has_no_name() -> None:
    assert key_terms(["cats", "dogs"], np.array([0, 2]))[1] == "task-1"
    assert key_terms(["cats"], np.array([-1])) == []
