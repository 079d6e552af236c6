"""Checks of encoders: vectors that partitioners and routers can rely on."""

from __future__ import annotations

import statistics
import time
from typing import Any

import numpy as np

from taskspec.testing.check import check, require
from taskspec.testing.exercises import exercise_of
from taskspec.testing.toy_texts import UNSEEN, toy_texts


@check("encoder")
def check_vector_form(encoder: Any) -> None:
    """`encode` gives finite float32 [N, D], the same D for any texts, also for none."""
    fitted = exercise_of(encoder).prepare(encoder)
    texts = toy_texts(1)[0]
    vectors = fitted.encode(texts)
    require(vectors.dtype == np.float32, f"vectors are {vectors.dtype}; they must be float32")
    require(
        vectors.ndim == 2 and len(vectors) == len(texts),
        f"vectors have shape {vectors.shape}; it must be [{len(texts)}, D]",
    )
    single = fitted.encode(texts[:1])
    require(single.shape == (1, vectors.shape[1]), "one text gives vectors of another width")
    none = fitted.encode([])
    require(
        none.dtype == np.float32 and none.shape == (0, vectors.shape[1]),
        f"no texts give {none.dtype} {none.shape}; it must be float32 {(0, vectors.shape[1])}",
    )
    require(np.isfinite(vectors).all(), "vectors hold NaN or infinity")


@check("encoder")
def check_rows_have_unit_norm(encoder: Any) -> None:
    """Rows have L2 norm one; a text without any known feature is a row of zeros."""
    fitted = exercise_of(encoder).prepare(encoder)
    norms = np.linalg.norm(fitted.encode([*toy_texts(1)[0], *UNSEEN]), axis=1)
    wrong = np.flatnonzero((np.abs(norms - 1) > 1e-3) & (norms > 1e-6))
    require(not len(wrong), f"row norms are {norms[wrong][:3]}; divide each row by its norm")


@check("encoder")
def check_texts_are_independent(encoder: Any) -> None:
    """A text has the same vector alone, in a batch, and in any order."""
    fitted = exercise_of(encoder).prepare(encoder)
    texts = toy_texts(1)[0][:8]
    together = fitted.encode(texts)
    backwards = fitted.encode(texts[::-1])[::-1]
    require(np.allclose(together, backwards, atol=1e-4), "the order of texts changes vectors")
    for index in (0, 5):
        alone = fitted.encode([texts[index]])[0]
        require(np.allclose(alone, together[index], atol=1e-4), "alone, a text's vector differs")


@check("encoder")
def check_odd_texts_are_encoded(encoder: Any) -> None:
    """Empty, blank, unseen and very long texts are encoded without error."""
    fitted = exercise_of(encoder).prepare(encoder)
    vectors = fitted.encode([*UNSEEN, "word " * 5000])
    require(np.isfinite(vectors).all(), "odd texts give NaN or infinity")


@check("encoder")
def check_alike_texts_are_near(encoder: Any) -> None:
    """Texts of one topic are nearer to each other than to those of another, on average."""
    fitted = exercise_of(encoder).prepare(encoder)
    texts, labels = toy_texts(1)
    vectors = fitted.encode(texts)
    similarity = vectors @ vectors.T
    same = labels[:, None] == labels[None, :]
    np.fill_diagonal(similarity, np.nan)
    inside, outside = np.nanmean(similarity[same]), np.nanmean(similarity[~same])
    require(inside > outside, f"mean similarity {inside:.3f} within a topic, {outside:.3f} across")


@check("encoder")
def check_latency_is_measured(encoder: Any) -> str:
    """Encoding one prompt works by itself, as it does for every request."""
    fitted = exercise_of(encoder).prepare(encoder)
    times = []
    for text in toy_texts(2)[0][:15]:
        started = time.perf_counter()
        fitted.encode([text])
        times.append(time.perf_counter() - started)
    return f"median {1e3 * statistics.median(times):.2f} ms per prompt"
