"""`taskspec check-plugin`: prove that an installed plugin keeps its kind's contract."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from taskspec.registry import PluginRecord, Registry


def check_plugin(
    name: Annotated[str, typer.Argument(help="A name from `taskspec plugins`.")],
    options: Annotated[
        list[str] | None, typer.Argument(help="Options of the plugin, as key=value.")
    ] = None,
    kind: Annotated[
        str | None, typer.Option(help="The kind, when plugins of several kinds share the name.")
    ] = None,
) -> None:
    """Run the conformance checks of a plugin; exit code 1 when one fails.

    Examples:

        taskspec check-plugin logistic

        taskspec check-plugin causal-lm layers=2 vocabulary=32
    """
    from taskspec.recipe.choice import PluginChoice
    from taskspec.recipe.plugins import make_plugin
    from taskspec.registry import default_registry

    registry = default_registry()
    record = _record(registry, name, kind)
    choice = PluginChoice(use=name, options=_parsed(options or []))
    plugin = make_plugin(registry, record.kind, choice)
    typer.echo(f"{record.kind} {name}, {record.distribution} {record.version}\n")
    failed = _report(plugin)
    if failed:
        typer.echo(f"\n{failed} checks failed")
        raise typer.Exit(1)
    typer.echo("\nall checks passed")


def _record(registry: Registry, name: str, kind: str | None) -> PluginRecord:
    """The one plugin of a name."""
    from taskspec.errors import PluginError
    from taskspec.registry import KINDS

    if kind is not None:
        if kind not in KINDS:
            raise PluginError(f"no plugin kind is named '{kind}'; kinds: {', '.join(KINDS)}")
        return registry.record(kind, name)
    records = [record for record in registry.plugins() if record.name == name]
    if len(records) > 1:
        kinds = " and ".join(record.kind for record in records)
        raise PluginError(f"'{name}' is the name of a {kinds}; choose with --kind")
    if not records:
        from taskspec.cli.plugins import unknown_plugin

        raise PluginError(unknown_plugin(name, registry))
    return records[0]


def _parsed(options: Sequence[str]) -> dict[str, Any]:
    """Options given as key=value; values are YAML."""
    import yaml

    from taskspec.errors import PluginError

    parsed = {}
    for option in options:
        key, equals, value = option.partition("=")
        if not equals or not key:
            raise PluginError(f"'{option}' is no option; write key=value")
        try:
            parsed[key] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise PluginError(f"the value of '{key}' is no YAML: {value}") from None
    return parsed


def _report(plugin: Any) -> int:
    """Run and print the checks; how many failed."""
    from taskspec.testing import run_checks

    failed = 0
    for outcome in run_checks(plugin):
        sign = typer.style("ok  ", fg="green") if outcome.passed else typer.style("FAIL", fg="red")
        line = f"{sign} {outcome.check.name.replace('_', ' ')} ({outcome.seconds:.1f} s)"
        typer.echo(f"{line}: {outcome.note}" if outcome.note else line)
        if not outcome.passed:
            failed += 1
            typer.echo(f"     the rule: {outcome.check.rule}")
    return failed
