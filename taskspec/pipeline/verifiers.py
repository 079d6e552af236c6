"""The verifiers a run uses, by name through the registry."""

from __future__ import annotations

from taskspec.interfaces import Verifier
from taskspec.recipe.choice import PluginChoice
from taskspec.recipe.plugins import make_plugin
from taskspec.registry import Registry


def plain_verifier(registry: Registry, greedy: bool) -> Verifier:
    """A verifier for decoding without drafts."""
    return make_verifier(registry, PluginChoice(use="greedy" if greedy else "rejection"))


def make_verifier(registry: Registry, choice: PluginChoice) -> Verifier:
    """The verifier of a recipe."""
    verifier = make_plugin(registry, "verifier", choice)
    assert isinstance(verifier, Verifier)
    return verifier
