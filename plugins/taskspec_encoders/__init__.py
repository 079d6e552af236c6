"""First-party encoders."""

from __future__ import annotations

from collections.abc import Iterable

from taskspec.hookspecs import hookimpl
from taskspec.interfaces import Encoder


@hookimpl
def taskspec_encoders() -> Iterable[type[Encoder]]:
    """Offer the built-in encoders."""
    from taskspec_encoders.sentence import Sentence
    from taskspec_encoders.tfidf import Tfidf

    return (Tfidf, Sentence)
