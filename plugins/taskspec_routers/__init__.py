"""First-party routers."""

from __future__ import annotations

from collections.abc import Iterable

from taskspec.hookspecs import hookimpl
from taskspec.interfaces import Router


@hookimpl
def taskspec_routers() -> Iterable[type[Router]]:
    """Offer the built-in routers."""
    from taskspec_routers.knn import KNN
    from taskspec_routers.logistic import Logistic
    from taskspec_routers.mamba import Mamba
    from taskspec_routers.mlp import MLP

    return (Logistic, MLP, KNN, Mamba)
