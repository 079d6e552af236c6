"""Plugins with a bug planted, a trap that real projects fell into, and the check to catch it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from taskspec.testing import ContractError, checks_for


@dataclass(frozen=True)
class Mutant:
    """A broken plugin.

    Attributes:
        plugin: Its class.
        caught_by: The check of the kit that must catch it.
        options: The plugin's options.
        raises: How the check shows it.
    """

    plugin: type
    caught_by: str
    options: Any = None
    raises: type[Exception] = ContractError

    def __str__(self) -> str:
        return self.plugin.__name__

    def assert_caught(self) -> None:
        instance = self.plugin(self.options)
        check = next(each for each in checks_for(instance) if each.name == self.caught_by)
        with pytest.raises(self.raises):
            check(instance)


def mutants() -> tuple[list[Mutant], Callable[..., Callable[[type], type]]]:
    """A list, and a decorator that adds a class to it: `@mutant(caught_by, options, raises)`."""
    known: list[Mutant] = []

    def mutant(caught_by: str, *args: Any, **kwargs: Any) -> Callable[[type], type]:
        def register(plugin: type) -> type:
            known.append(Mutant(plugin, caught_by, *args, **kwargs))
            return plugin

        return register

    return known, mutant
