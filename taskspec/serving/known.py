"""Whether a prompt lies where a run's prompts lie, in the vectors that its router reads."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

KNOWN = "known.safetensors"
_QUANTILE = 0.99
_SHRINKAGE = 0.05
"""Share of a round covariance in the measured one, which many dimensions leave singular."""


@dataclass(frozen=True)
class KnownPrompts:
    """The tasks' places among vectors, and how far from them known prompts lie.

    A prompt's distance is Mahalanobis' to the nearest task's mean, with one covariance for all
    tasks (Lee et al. 2018, equation 2). The covariance is what makes it tell: some encoders put
    everything, also what they have never seen, into the few directions that they know.

    Attributes:
        whitening: float64 [D, D], after which the tasks' covariance is round.
        centers: float64 [C, D], the tasks' means, so treated.
        labels: int64 [C], the tasks' labels.
        limit: Distance beyond which a prompt is unknown.
        validation: Validation prompts that set the limit.
        beyond: How many of them lie beyond it.
    """

    whitening: NDArray[np.float64]
    centers: NDArray[np.float64]
    labels: NDArray[np.int64]
    limit: float
    validation: int
    beyond: int

    def distances(self, vectors: NDArray[np.float32]) -> NDArray[np.float64]:
        """Distances of vectors [N, D], the limit being 1; infinite for zero vectors.

        A zero vector is a text of which the encoder knows nothing.
        """
        found = _squares(vectors, self.whitening, self.centers)
        return _nearest(vectors, found) / self.limit

    def nearest(self, vectors: NDArray[np.float32]) -> NDArray[np.int64]:
        """Labels of the tasks that are nearest to vectors [N, D]."""
        found: NDArray[np.int64] = self.labels[
            _squares(vectors, self.whitening, self.centers).argmin(axis=1)
        ]
        return found


def measure_known(
    train: NDArray[np.float32], labels: NDArray[np.int64], validation: NDArray[np.float32]
) -> KnownPrompts | None:
    """Find the tasks' places, and the limit that 99 % of validation prompts keep.

    Training prompts lie nearer to means that are their own, so they set no limit. As a new known
    prompt's rank among the M validation prompts is uniform, the limit is that of rank
    ceil(0.99 (M + 1)), or the last one where there are fewer than 99.

    Args:
        train: Encoded training prompts [N, D].
        labels: Their tasks [N].
        validation: Encoded validation prompts [M, D].

    Returns:
        None where distances tell nothing: without validation prompts, or when all that the encoder
        knows lie on their tasks' means. Then no prompt is unknown by its distance.
    """
    seen = train.any(axis=1)
    train, labels = train[seen].astype(np.float64), labels[seen]
    names, places = np.unique(labels, return_inverse=True)
    if not len(names):
        return None
    means = np.stack([train[labels == name].mean(axis=0) for name in names])
    whitening = _whitening(train - means[places])
    centers = means @ whitening
    found = np.sort(_nearest(validation, _squares(validation, whitening, centers)))
    finite = int(np.isfinite(found).sum())
    rank = min(math.ceil(_QUANTILE * (len(found) + 1)), finite)
    if not rank or found[rank - 1] <= 0:
        return None
    limit = float(found[rank - 1])
    beyond = int((found > limit).sum())
    return KnownPrompts(whitening, centers, names, limit, len(found), beyond)


def save_known(known: KnownPrompts, folder: Path) -> None:
    """Write `known.safetensors` into a folder."""
    tensors = {
        "whitening": known.whitening,
        "centers": known.centers,
        "labels": known.labels,
        "limit": np.array([known.limit]),
        "counts": np.array([known.validation, known.beyond], dtype=np.int64),
    }
    save_file(tensors, folder / KNOWN)


def load_known(folder: Path) -> KnownPrompts | None:
    """What `save_known` wrote into a folder; None when it wrote nothing there."""
    path = folder / KNOWN
    if not path.is_file():
        return None
    tensors = load_file(path)
    validation, beyond = (int(each) for each in tensors["counts"])
    places = tensors["whitening"], tensors["centers"], tensors["labels"]
    return KnownPrompts(*places, float(tensors["limit"][0]), validation, beyond)


def _whitening(residuals: NDArray[np.float64]) -> NDArray[np.float64]:
    """float64 [D, D] that makes the covariance of residuals [N, D], slightly rounded, the unit's.

    The unit itself when there is no variance at all.
    """
    dimensions = residuals.shape[1]
    covariance = residuals.T @ residuals / len(residuals)
    mean = float(np.trace(covariance)) / dimensions
    unit = np.eye(dimensions)
    if mean <= 0:
        return unit
    values, axes = np.linalg.eigh((1 - _SHRINKAGE) * covariance + _SHRINKAGE * mean * unit)
    whitening: NDArray[np.float64] = axes / np.sqrt(values)
    return whitening


def _squares(
    vectors: NDArray[np.float32], whitening: NDArray[np.float64], centers: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Squared distances [N, C] of vectors [N, D] from centers [C, D]."""
    placed = vectors.astype(np.float64) @ whitening
    return np.stack([((placed - center) ** 2).sum(axis=1) for center in centers], axis=1)


def _nearest(vectors: NDArray[np.float32], squares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distances [N] from the nearest center; infinite for zero vectors."""
    found: NDArray[np.float64] = np.sqrt(squares.min(axis=1))
    found[~vectors.any(axis=1)] = np.inf
    return found
