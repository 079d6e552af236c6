"""What a check is, how checks are collected, and how they are run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from taskspec.interfaces import Plugin
from taskspec.registry import KINDS

ANY = "plugin"
"""The kind of checks that every plugin must pass."""

CheckFunction = Callable[[Any], "str | None"]
Function = TypeVar("Function", bound=CheckFunction)

_CHECKS: list[Check] = []


class ContractError(AssertionError):
    """A plugin breaks its kind's contract; the message says how."""


@dataclass(frozen=True)
class Check:
    """One rule of a plugin contract.

    Attributes:
        name: The function's name without `check_`, for test ids and expected failures.
        kind: The plugin kind it is for, or `plugin` for all.
        rule: The rule in one line.
        function: Takes the plugin; raises when the rule is broken, may return a note.
    """

    name: str
    kind: str
    rule: str
    function: CheckFunction

    def __call__(self, plugin: Plugin) -> str | None:
        """Run the check.

        Raises:
            ContractError: When the plugin breaks the rule.
        """
        return self.function(plugin)


@dataclass(frozen=True)
class Outcome:
    """What became of one check.

    Attributes:
        check: The check.
        passed: Whether the rule holds, or fails as expected.
        note: What was measured, the broken rule, or the reason of an expected failure.
        seconds: Time it took.
    """

    check: Check
    passed: bool
    note: str
    seconds: float


def check(kind: str) -> Callable[[Function], Function]:
    """Register a check function for a plugin kind; its docstring is the rule."""

    def register(function: Function) -> Function:
        rule = (function.__doc__ or "").strip().partition("\n")[0]
        name = function.__name__.removeprefix("check_")
        _CHECKS.append(Check(name, kind, rule, function))
        return function

    return register


def require(condition: object, message: str) -> None:
    """Raise unless a condition holds.

    Raises:
        ContractError: With the message.
    """
    if not condition:
        raise ContractError(message)


def kind_of(plugin: Plugin | type[Plugin]) -> str:
    """A plugin's kind.

    Raises:
        TypeError: When it inherits from none of the contracts.
    """
    plugin_class = plugin if isinstance(plugin, type) else type(plugin)
    for kind, interface in KINDS.items():
        if issubclass(plugin_class, interface):
            return kind
    raise TypeError(
        f"{plugin_class.__qualname__} inherits from none of {', '.join(map(str, KINDS))}; see "
        "taskspec.interfaces"
    )


def checks_for(plugin: Plugin | type[Plugin]) -> tuple[Check, ...]:
    """All checks a plugin must pass: the general ones, then those of its kind."""
    # Imported for their registrations.
    from taskspec.testing import (  # noqa: F401
        aligners,
        commits,
        drafted_answers,
        drafters,
        encoders,
        general,
        partitioners,
        routers,
        trainable,
        verifiers,
    )

    kind = kind_of(plugin)
    general_ones = [each for each in _CHECKS if each.kind == ANY]
    return (*general_ones, *(each for each in _CHECKS if each.kind == kind))


def run_checks(
    plugin: Plugin, expected_failures: Mapping[str, str] | None = None
) -> Iterable[Outcome]:
    """Run all checks of a plugin, one after another.

    Args:
        plugin: The plugin, with the options to be checked.
        expected_failures: Reasons by check name; such a check must fail.

    Yields:
        One outcome per check.

    Raises:
        ValueError: When an expected failure names no check.
    """
    expected = expected_names(plugin, expected_failures)
    for each in checks_for(plugin):
        started = time.perf_counter()
        try:
            passed, note = True, each(plugin) or ""
        except Exception as error:
            passed, note = False, f"{_kind_of_error(error)}{error}"
        reason = expected.get(each.name)
        if reason is not None:
            note = f"expected: {reason}" if not passed else f"passes, but should fail: {reason}"
            passed = not passed
        yield Outcome(each, passed, note, time.perf_counter() - started)


def expected_names(
    plugin: Plugin, expected_failures: Mapping[str, str] | None
) -> Mapping[str, str]:
    """The expected failures, once their names and reasons are in order.

    Raises:
        ValueError: When one names no check of the plugin, or gives no reason.
    """
    names = [each.name for each in checks_for(plugin)]
    for name, reason in (expected_failures or {}).items():
        if name not in names:
            raise ValueError(f"no check is named '{name}'; there are {', '.join(names)}")
        if not reason.strip():
            raise ValueError(f"the expected failure of '{name}' needs a reason")
    return expected_failures or {}


def _kind_of_error(error: Exception) -> str:
    return "" if isinstance(error, ContractError) else f"{type(error).__name__}: "
