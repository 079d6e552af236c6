"""Found tasks against known ones."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskspec.evaluation.clustering import score_clustering

KNOWN = ["code"] * 4 + ["math"] * 3 + ["qa"] * 3


def test_the_right_tasks_score_one_whatever_their_numbers() -> None:
    score = score_clustering([2] * 4 + [0] * 3 + [1] * 3, KNOWN)
    assert (score.accuracy, score.ari, score.nmi) == pytest.approx((1, 1, 1))
    assert score.clusters == 3
    assert score.matching == {0: "math", 1: "qa", 2: "code"}


def test_strays_count_as_wrong() -> None:
    assert score_clustering([0, 0, 0, 1, 1, 1, 1, 2, 2, 2], KNOWN).accuracy == pytest.approx(0.9)


def test_each_known_task_matches_one_cluster() -> None:
    split = score_clustering([0, 0, 3, 3, 1, 1, 1, 2, 2, 2], KNOWN)
    assert (split.accuracy, split.clusters) == (pytest.approx(0.8), 4)
    merged = score_clustering([0] * 4 + [1] * 6, KNOWN)
    assert (merged.accuracy, merged.clusters) == (pytest.approx(0.7), 2)


def test_the_matching_is_the_best_one_not_the_greedy_one() -> None:
    # Cluster 0 is mostly `a`, but as `b` it leaves `a` to cluster 1: four right, not three.
    known = ["a", "a", "a", "b", "b", "a", "a"]
    score = score_clustering([0, 0, 0, 0, 0, 1, 1], known)
    assert score.accuracy == pytest.approx(4 / 7)
    assert score.matching == {0: "b", 1: "a"}


def test_noise_counts_as_wrong() -> None:
    score = score_clustering([0, 0, -1, -1, 1, 1, 1, 2, 2, 2], KNOWN)
    assert (score.accuracy, score.clusters) == (pytest.approx(0.8), 3)
    nothing = score_clustering([-1] * 10, KNOWN)
    assert (nothing.accuracy, nothing.clusters, dict(nothing.matching)) == (0, 0, {})


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.sampled_from("abcd")), min_size=1),
    st.permutations(range(4)),
    st.randoms(use_true_random=False),
)
def test_neither_numbering_nor_order_matters(
    pairs: list[tuple[int, str]], numbering: list[int], random: Random
) -> None:
    score = score_clustering([label for label, _ in pairs], [task for _, task in pairs])
    renumbered = [(numbering[label], task) for label, task in pairs]
    random.shuffle(renumbered)
    other = score_clustering([label for label, _ in renumbered], [task for _, task in renumbered])
    assert other.accuracy == pytest.approx(score.accuracy)
    assert other.ari == pytest.approx(score.ari)
    assert other.nmi == pytest.approx(score.nmi)
