"""Bugs planted in routers, partitioners and encoders: the conformance kit catches each."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import pytest
from planted import mutants
from taskspec_encoders.tfidf import Tfidf
from taskspec_partitioners.kmeans import KMeansPartitioner
from taskspec_routers.logistic import Logistic

MUTANTS, mutant = mutants()


@mutant("column_is_label")
class ColumnsByFrequency(Logistic):
    """Columns in order of first appearance rather than of labels."""

    def fit(self, inputs, labels, seed):
        order = list(dict.fromkeys(labels.tolist()))
        super().fit(inputs, np.array([order.index(label) for label in labels.tolist()]), seed)


@mutant("probabilities")
class Scores(Logistic):
    """Scores, not probabilities."""

    def predict_proba(self, inputs):
        return np.log(super().predict_proba(inputs) + 1e-9)


@mutant("label_without_examples")
class DividesByNoExamples(Logistic):
    """A label that no prompt has is 0 / 0."""

    def fit(self, inputs, labels, seed):
        super().fit(inputs, labels, seed)
        self.missing = np.bincount(labels) == 0

    def predict_proba(self, inputs):
        return np.where(self.missing, np.nan, super().predict_proba(inputs)).astype(np.float32)


@mutant("vector_form")
class FlatWithoutTexts(Tfidf):
    """No texts give a vector of no entries."""

    def encode(self, texts):
        return super().encode(texts) if texts else np.zeros(0, dtype=np.float32)


@mutant("one_class", raises=ValueError)
class NeedsTwoClasses(Logistic):
    """A single task crashes it."""

    def fit(self, inputs, labels, seed):
        if len(np.unique(labels)) < 2:
            raise ValueError("at least two classes are needed")
        super().fit(inputs, labels, seed)


@mutant("unseen_words")
class DividesByTheNorm(Logistic):
    """An unknown prompt is 0 / 0."""

    def predict_proba(self, inputs):
        with np.errstate(invalid="ignore"):
            unit = inputs / np.linalg.norm(inputs, axis=1, keepdims=True)
        return super().predict_proba(unit.astype(np.float32))


@mutant("saves_no_pickle")
class SavesAPickle(Logistic):
    """Writes a pickle beside its weights."""

    def save(self, folder):
        import pickle

        super().save(folder)
        (folder / "router.json").write_bytes(pickle.dumps({"a": 1}))


@mutant("saved_state_restores")
class ForgetsItsBias(Logistic):
    """Half of the state is not saved."""

    @classmethod
    def load(cls, folder, options):
        router = super().load(folder, options)
        router._weights = router._weights[::-1].copy()
        return router


@mutant("picklable_for_workers")
class HoldsALambda(Logistic):
    """Cannot travel to worker processes."""

    def __init__(self, options=None):
        super().__init__(options)
        self.transform = lambda value: value


@mutant("repeatable")
class UnseededClusters(KMeansPartitioner):
    """Labels differ from call to call."""

    calls = itertools.count()

    def predict(self, vectors, texts):
        labels = super().predict(vectors, texts)
        return (labels + next(self.calls)) % (labels.max(initial=0) + 1)


@mutant("labels_are_contiguous")
class LeavesAGap(KMeansPartitioner):
    """Labels 0, 2, 4."""

    def fit(self, vectors, texts, context):
        return super().fit(vectors, texts, context) * 2


@mutant("too_few_prompts", raises=IndexError)
class CrashesOnFew(KMeansPartitioner):
    """Few prompts give a library's traceback instead of a message."""

    def fit(self, vectors, texts, context):
        if len(vectors) < 3:
            raise IndexError("list index out of range")
        return super().fit(vectors, texts, context)


@mutant("predict_agrees_with_fit")
class PredictsAnotherOrder(KMeansPartitioner):
    """`predict` numbers the tasks otherwise than `fit`."""

    def fit(self, vectors, texts, context):
        labels = super().fit(vectors, texts, context)
        return labels.max() - labels


@mutant("rows_have_unit_norm")
class NotNormalised(Tfidf):
    """Vectors of any length."""

    def encode(self, texts):
        return super().encode(texts) * 3


@mutant("texts_are_independent")
class CentresTheBatch(Tfidf):
    """Subtracts the mean of whatever is encoded together."""

    def encode(self, texts):
        vectors = super().encode(texts)
        centred = vectors - vectors.mean(axis=0, keepdims=True)
        norms = np.linalg.norm(centred, axis=1, keepdims=True)
        return np.where(norms > 0, centred / np.maximum(norms, 1e-9), 0).astype(np.float32)


@mutant("vector_form")
class DoublePrecision(Tfidf):
    """float64 vectors."""

    def encode(self, texts):
        return super().encode(texts).astype(np.float64)


@dataclass(frozen=True)
class UndocumentedOptions:
    """An option without a word about it."""

    strength: float = 1.0


@mutant("declaration")
class Undocumented(Logistic):
    """Options that nobody can read about."""

    Options = UndocumentedOptions


@pytest.mark.parametrize("planted", MUTANTS, ids=str)
def test_the_kit_catches(planted):
    planted.assert_caught()
