"""First-party aligners."""

from __future__ import annotations

from collections.abc import Iterable

from taskspec.hookspecs import hookimpl
from taskspec.interfaces import Aligner


@hookimpl
def taskspec_aligners() -> Iterable[type[Aligner]]:
    """Offer the built-in aligners."""
    from taskspec_aligners.kd import KD
    from taskspec_aligners.lora_kd import LoraKD

    return (KD, LoraKD)
