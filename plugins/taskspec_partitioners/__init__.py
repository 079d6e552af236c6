"""First-party partitioners."""

from __future__ import annotations

from collections.abc import Iterable

from taskspec.hookspecs import hookimpl
from taskspec.interfaces import Partitioner


@hookimpl
def taskspec_partitioners() -> Iterable[type[Partitioner]]:
    """Offer the built-in partitioners."""
    from taskspec_partitioners.hdbscan import HdbscanPartitioner
    from taskspec_partitioners.kmeans import KMeansPartitioner
    from taskspec_partitioners.llm_label import LlmLabelPartitioner

    return (KMeansPartitioner, HdbscanPartitioner, LlmLabelPartitioner)
