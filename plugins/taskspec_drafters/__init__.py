"""First-party drafters."""

from __future__ import annotations

from collections.abc import Iterable

from taskspec.hookspecs import hookimpl
from taskspec.interfaces import Drafter


@hookimpl
def taskspec_drafters() -> Iterable[type[Drafter]]:
    """Offer the built-in drafters."""
    from taskspec_drafters.cascade import Cascade
    from taskspec_drafters.causal_lm import CausalLM
    from taskspec_drafters.feature import Feature
    from taskspec_drafters.prompt_lookup import PromptLookup
    from taskspec_drafters.suffix import Suffix

    return (CausalLM, Feature, PromptLookup, Suffix, Cascade)
