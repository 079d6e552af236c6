"""First-party routers."""

from __future__ import annotations

from collections.abc import Iterable

from taskspec.hookspecs import hookimpl
from taskspec.interfaces import Router


@hookimpl
def taskspec_routers() -> Iterable[type[Router]]:
    """Offer the built-in routers."""
    from taskspec_routers.logistic import Logistic

    return (Logistic,)
