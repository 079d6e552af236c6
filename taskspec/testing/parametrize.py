"""The checks as pytest parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from taskspec.interfaces import Plugin
from taskspec.testing.check import checks_for, expected_names


def parametrize_with_checks(
    plugins: Sequence[Plugin],
    expected_failures: Mapping[str, Mapping[str, str]] | None = None,
) -> Any:
    """Parametrize a test over every plugin and each of its checks.

    The test takes `plugin` and `check` and calls `check(plugin)`. Needs pytest.

    Args:
        plugins: Plugins with the options to be checked.
        expected_failures: By plugin name, reasons by check name. They are strict: a check that
            passes although it was expected to fail fails the test.

    Raises:
        ValueError: When an expected failure names no plugin or no check, or has no reason.
    """
    import pytest

    reasons = expected_failures or {}
    unknown = set(reasons) - {plugin.name for plugin in plugins}
    if unknown:
        raise ValueError(f"expected failures for {sorted(unknown)}, which are not checked here")
    parameters = []
    for plugin in plugins:
        expected = expected_names(plugin, reasons.get(plugin.name))
        for each in checks_for(plugin):
            marks = []
            if each.name in expected:
                marks = [pytest.mark.xfail(strict=True, reason=expected[each.name])]
            label = f"{plugin.name}-{each.name}"
            parameters.append(pytest.param(plugin, each, id=label, marks=marks))
    return pytest.mark.parametrize(("plugin", "check"), parameters)
