"""First-party verifiers."""

from __future__ import annotations

from collections.abc import Iterable

from taskspec.hookspecs import hookimpl
from taskspec.interfaces import Verifier


@hookimpl
def taskspec_verifiers() -> Iterable[type[Verifier]]:
    """Offer the built-in verifiers."""
    from taskspec_verifiers.block import Block
    from taskspec_verifiers.greedy import Greedy
    from taskspec_verifiers.rejection import Rejection
    from taskspec_verifiers.typical import Typical

    return (Block, Greedy, Rejection, Typical)
