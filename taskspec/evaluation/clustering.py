"""Whether the tasks found are the tasks known. Labels are used for evaluation only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ClusteringScore:
    """Agreement of found tasks with known ones.

    Attributes:
        accuracy: Best one-to-one matching; noise and unmatched clusters count as wrong.
        ari: Adjusted Rand index.
        nmi: Normalised mutual information.
        clusters: Number of tasks found.
        matching: The known task matched to each found one.
    """

    accuracy: float
    ari: float
    nmi: float
    clusters: int
    matching: Mapping[int, str]


def score_clustering(found: Sequence[int], known: Sequence[str]) -> ClusteringScore:
    """Score a labelling.

    Args:
        found: Label per prompt, -1 for noise.
        known: Known task per prompt.
    """
    from scipy.optimize import linear_sum_assignment
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    tasks = sorted(set(known))
    labels = np.asarray(found)
    clusters = int(labels.max()) + 1 if (labels >= 0).any() else 0
    counts = np.zeros((clusters, len(tasks)), dtype=np.int64)
    for label, task in zip(found, known, strict=True):
        if label >= 0:
            counts[label, tasks.index(task)] += 1
    rows, columns = linear_sum_assignment(-counts)
    return ClusteringScore(
        accuracy=float(counts[rows, columns].sum() / len(known)),
        ari=float(adjusted_rand_score(list(known), list(found))),
        nmi=float(normalized_mutual_info_score(list(known), list(found))),
        clusters=clusters,
        matching={int(row): tasks[column] for row, column in zip(rows, columns, strict=True)},
    )
