"""`taskspec new-plugin`: a complete small distribution to start from."""

from __future__ import annotations

import re
import sys
from importlib import metadata, resources
from pathlib import Path
from typing import Annotated

import typer

_HOOK = '''"""{title}: a {kind} for TaskSpec."""

from __future__ import annotations

from collections.abc import Iterable

from taskspec.hookspecs import hookimpl
from taskspec.interfaces import {interface}


@hookimpl
def taskspec_{kind}s() -> Iterable[type[{interface}]]:
    """Offer the {kind}."""
    from {package}.{kind} import {title}

    return ({title},)
'''
_PROJECT = """[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "{distribution}"
version = "0.1.0"
description = "A {kind} for TaskSpec"
readme = "README.md"
requires-python = ">=3.11"
dependencies = ["taskspec-decoding"]

[project.optional-dependencies]
test = ["pytest>=8"]

[project.entry-points.taskspec]
{package} = "{package}"

[tool.setuptools]
packages = ["{package}"]
"""
_TEST = '''"""The {kind} keeps TaskSpec's contract."""

from __future__ import annotations

from typing import Any

from {package}.{kind} import {title}

from taskspec.testing import parametrize_with_checks


@parametrize_with_checks([{title}()])
def test_contract(plugin: Any, check: Any) -> None:
    check(plugin)
'''
_README = """# {distribution}

A {kind} plugin for TaskSpec, named `{name}`.

```
pip install -e '.[test]'
pytest
taskspec plugins {name}
taskspec check-plugin {name}
```

In a recipe:

```yaml
{recipe}
```

The code is in `{package}/{kind}.py`. `taskspec check-plugin` says which rule of the contract a
change broke; the test runs the same checks.

Stages of a run that are finished stay as they are when you edit the code: raise `version` in
`pyproject.toml` and install again, or remove the stage's folder, and the stage is done anew.
"""
_RECIPES = {
    "encoder": "encode: {use: NAME}",
    "partitioner": "partition: {use: NAME}",
    "drafter": "draft:\n  pool:\n    mine: {use: NAME}",
    "aligner": "align: {use: NAME}",
    "router": "route: {use: NAME}",
    "verifier": "decode:\n  verifier: {use: NAME}",
}


def new_plugin(
    kind: Annotated[str, typer.Argument(help="encoder, partitioner, drafter, aligner, ...")],
    name: Annotated[str, typer.Argument(help="What recipes will call it: lower case, dashes.")],
    folder: Annotated[
        Path | None, typer.Option(help="Where to write; by default ./taskspec-NAME.")
    ] = None,
) -> None:
    """Write a small working plugin of your own: code, entry point, test, README.

    Examples:

        taskspec new-plugin router my-router

        taskspec new-plugin drafter my-drafter --folder plugins/my-drafter
    """
    from taskspec.declarations import check_plugin_name
    from taskspec.errors import ArtifactError, PluginError
    from taskspec.registry import KINDS, default_registry

    if kind not in KINDS:
        raise PluginError(f"no plugin kind is named '{kind}'; kinds: {', '.join(KINDS)}")
    check_plugin_name(name)
    taken = [r for r in default_registry().plugins() if (r.kind, r.name) == (kind, name)]
    if taken:
        raise PluginError(
            f"{taken[0].distribution} has a {kind} named '{name}' already; choose another name"
        )
    _refuse_installed(name)
    place = folder or Path(f"taskspec-{name}")
    if place.exists() and (not place.is_dir() or any(place.iterdir())):
        raise ArtifactError(f"{place} exists already; name another place with --folder")
    for path, text in _files(kind, name, KINDS[kind].__name__).items():
        (place / path).parent.mkdir(parents=True, exist_ok=True)
        (place / path).write_text(text, encoding="utf-8")
    typer.echo(f"wrote {place}; next:\n")
    typer.echo(f"  pip install -e '{place}[test]'")
    typer.echo(f"  pytest {place}")
    typer.echo(f"  taskspec check-plugin {name} --kind {kind}")


def _refuse_installed(name: str) -> None:
    """Refuse a name whose distribution or package would take the place of another.

    Raises:
        PluginError: When there is one.
    """
    from taskspec.errors import PluginError

    distribution, package = f"taskspec-{name}", _package(name)
    found = [*metadata.distributions(name=distribution)]
    if found or any(finder.find_spec(package, None) for finder in sys.meta_path):
        raise PluginError(
            f"a plugin '{name}' would be the distribution {distribution} with the package "
            f"{package}, and one of these is installed already; choose another name"
        )


def _package(name: str) -> str:
    return f"taskspec_{name.replace('-', '_')}"


def _files(kind: str, name: str, interface: str) -> dict[str, str]:
    """The distribution's files, by path."""
    title = "".join(part.title() for part in name.split("-"))
    package = _package(name)
    code = (resources.files("taskspec.templates") / f"{kind}.py").read_text(encoding="utf-8")
    # A class must not hide what the files themselves use.
    used = {interface, *re.findall(r"\w+", code.replace("MyPlugin", "") + _HOOK + _TEST)}
    if title in used or not title.isidentifier():
        title = f"My{title}"
    facts = {
        "kind": kind,
        "name": name,
        "title": title,
        "package": package,
        "distribution": f"taskspec-{name}",
        "interface": interface,
        "recipe": _RECIPES[kind].replace("NAME", name),
    }
    return {
        "pyproject.toml": _PROJECT.format(**facts),
        "README.md": _README.format(**facts),
        f"{package}/__init__.py": _HOOK.format(**facts),
        f"{package}/{kind}.py": code.replace("MyPlugin", title).replace("my-plugin", name),
        f"tests/test_{kind}.py": _TEST.format(**facts),
    }
