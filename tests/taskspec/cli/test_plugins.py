from dataclasses import dataclass

import pytest
from typer.testing import CliRunner

from taskspec.cli.main import app
from taskspec.interfaces import Plugin, option
from taskspec.registry import LoadFailure, PluginRecord


@dataclass(frozen=True)
class MagicOptions:
    words: list[str] = option(["abra"], "Words to [b]say[/b].")
    strength: float = option(0.5, "How much.")


class Magic(Plugin):
    """Routes by magic.

    Described in no paper.
    """

    name = "magic"
    Options = MagicOptions


class Plain(Plugin):
    """Does nothing."""

    name = "plain"


def record(plugin, kind="router"):
    summary = plugin.__doc__.partition("\n")[0]
    return PluginRecord(kind, plugin.name, plugin, "acme", "1.5", plugin.__module__, summary)


class FixedRegistry:
    """A registry of two plugins, one failure and one clash."""

    failures = (LoadFailure("broken-thing 2.0", "entry", "ImportError: no such module; mend it"),)
    clashes = ("two routers are named 'twin'",)

    def plugins(self):
        return (record(Magic), record(Plain, "verifier"))


@pytest.fixture(autouse=True)
def registry(monkeypatch):
    monkeypatch.setattr("taskspec.registry.default_registry", FixedRegistry)


def invoke(*arguments):
    return CliRunner().invoke(app, ["plugins", *arguments])


def test_each_plugin_is_a_line_with_its_provider():
    result = invoke()
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "router\tmagic\tacme\t1.5\tRoutes by magic.",
        "verifier\tplain\tacme\t1.5\tDoes nothing.",
    ]


def test_failures_and_clashes_are_told_without_failing():
    assert invoke().stderr.splitlines() == [
        "warning: entry point 'entry' of broken-thing 2.0 could not be loaded: "
        "ImportError: no such module; mend it",
        "warning: two routers are named 'twin'",
    ]


def test_a_name_shows_documentation_and_options():
    output = invoke("magic").stdout
    assert output.startswith("router magic, acme 1.5\n")
    assert "Described in no paper." in output
    assert output.splitlines()[-2:] == [
        "words\tlist[str]\t['abra']\tWords to [b]say[/b].",
        "strength\tfloat\t0.5\tHow much.",
    ]


def test_a_plugin_without_options_says_so():
    assert "It takes no options." in invoke("plain").stdout


def test_an_unknown_name_is_a_mistake_that_names_what_there_is_and_what_is_broken():
    result = invoke("magik")
    assert result.exit_code == 2
    first, *rest = result.stderr.splitlines()
    assert first == "error: no plugin named 'magik'. Did you mean 'magic'? Installed: magic, plain."
    assert "broken-thing 2.0" in rest[0] and "'twin'" in rest[1]


def test_on_a_terminal_text_in_brackets_is_not_taken_for_markup(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    output = invoke("magic").stdout
    assert "list[str]" in output and "[b]say[/b]" in output
