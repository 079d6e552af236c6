"""Noise that no two requests share, for drafting that learns from one what it does for another."""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import replace

from taskspec.decoding.records import Request

_sampled = itertools.count()
"""Of the whole process: what is learnt in one call may be used in any other."""


def own_noise(request: Request) -> Request:
    """The request with a seed of its own, where it samples.

    Of two requests with one seed, what was learnt from the first would choose what the second one
    drafts, to be judged by the noise that it was learnt from: no longer by chance.
    """
    if request.sampling.greedy:
        return request
    own = hashlib.sha256(f"{request.seed} {next(_sampled)}".encode()).digest()
    return replace(request, seed=int.from_bytes(own[:7], "big"))
