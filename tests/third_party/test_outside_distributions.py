"""Strangers' distributions, one per kind, built, installed and used as their users would."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent
PLUGINS = {
    "encoder": "acme-letters",
    "partitioner": "acme-tree",
    "drafter": "acme-echo",
    "aligner": "acme-squares",
    "router": "acme-centroid",
    "verifier": "acme-twin",
}
EXPECTED = {
    "acme-twin": {
        "equal_distributions_accept_all": "it draws anew instead of accepting the draft's sample"
    }
}
CHECK = """
import json, sys
from taskspec.registry import default_registry
from taskspec.testing import run_checks

kind, name, expected = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
plugin = default_registry().get(kind, name)()
outcomes = list(run_checks(plugin, expected))
assert len(outcomes) > 10
wrong = [f"{each.check.name}: {each.note}" for each in outcomes if not each.passed]
sys.exit("\\n".join(wrong) or None)
"""
OVERRIDES = (
    "encode={use: acme-letters, options: {length: 4}}",
    "partition={use: acme-tree, options: {tasks: 2}}",
    "draft.pool.echo=acme-echo",
    "draft.pool.lookup=null",
    "align={use: acme-squares, options: {scale: 5.0}}",
    "route.use=acme-centroid",
    "decode.verifier=acme-twin",
    "decode.temperature=1.0",
)

Environment = Mapping[str, str]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """The environment of processes that have all the distributions installed."""
    site = tmp_path_factory.mktemp("site")
    for kind in PLUGINS:
        # Building writes beside the sources, so it is done on a copy.
        copy = tmp_path_factory.mktemp("source") / kind
        source = shutil.copytree(FOLDER / f"acme_{kind}", copy)
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        options = ["--no-deps", "--no-index", "--no-build-isolation", "--target", str(site)]
        subprocess.run([*command, *options, str(source)], check=True)
    return {**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}


def taskspec(environment: Environment, *arguments: str) -> str:
    command = [str(Path(sys.executable).with_name("taskspec")), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_command_line_lists_them_beside_the_first_party_ones(installed: Environment) -> None:
    rows = [line.split("\t") for line in taskspec(installed, "plugins").splitlines()]
    listed = [tuple(row[:4]) for row in rows]
    for kind, name in PLUGINS.items():
        assert (kind, name, f"acme-{kind}", "1.2.3") in listed
    assert any(row[:3] == ("router", "logistic", "taskspec-decoding") for row in listed)
    assert all(len(row) == 5 and row[4] for row in rows), "every plugin says what it does"


def test_their_options_are_shown_like_any_others(installed: Environment) -> None:
    shown = taskspec(installed, "plugins", "acme-letters")
    assert "length\tint\t3\tLetters of a run." in shown


@pytest.mark.parametrize("kind", PLUGINS)
def test_they_keep_their_kinds_contract(installed: Environment, kind: str) -> None:
    name = PLUGINS[kind]
    expected = json.dumps(EXPECTED.get(name, {}))
    command = [sys.executable, "-c", CHECK, kind, name, expected]
    done = subprocess.run(command, env=installed, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_recipe_may_be_made_of_nothing_else(
    installed: Environment, write_recipe: Callable[..., Path], tmp_path: Path
) -> None:
    recipe = str(write_recipe())
    runs = f"runs={tmp_path / 'runs'}"
    taskspec(installed, "run", recipe, runs, *OVERRIDES)
    results = json.loads((tmp_path / "runs/tiny/results.json").read_text())
    assert results["lossless"]["mismatches"] == 0
    bundle = str(tmp_path / "runs/tiny/bundle")
    answer = taskspec(installed, "generate", bundle, "w3 w7 w9", "--stats", "--seed", "4")
    again = taskspec(installed, "generate", bundle, "w3 w7 w9", "--stats", "--seed", "4")
    assert answer.splitlines()[0] == again.splitlines()[0]
