"""Acme's plugins for TaskSpec."""

from __future__ import annotations

from collections.abc import Iterable

from taskspec.hookspecs import hookimpl
from taskspec.interfaces import Router


@hookimpl
def taskspec_routers() -> Iterable[type[Router]]:
    """Offer the router."""
    from acme_router.centroid import Centroid

    return (Centroid,)
