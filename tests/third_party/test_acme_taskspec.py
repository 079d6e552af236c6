"""A stranger's distribution, built and installed as its users would."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent / "acme_taskspec"

ASK_REGISTRY = """
from taskspec.registry import Registry

record = Registry.discover().record("router", "acme-centroid")
print(record.distribution, record.version, record.module, record.summary, sep="|")
"""

ROUTE = """
import sys
from pathlib import Path

import numpy as np

from taskspec.recipe.plugins import make_plugin
from taskspec.recipe.schema import PluginChoice
from taskspec.registry import Registry

choice = PluginChoice(use="acme-centroid", options={"sharpness": 3.0})
router = make_plugin(Registry.discover(), "router", choice)
vectors = np.eye(3, dtype=np.float32)
router.fit(vectors, np.arange(3), seed=0)
router.save(Path(sys.argv[1]))
again = type(router).load(Path(sys.argv[1]), router.options)
probabilities = again.predict_proba(vectors)
assert np.array_equal(probabilities, router.predict_proba(vectors))
assert probabilities.argmax(axis=1).tolist() == [0, 1, 2]
assert np.allclose(probabilities.sum(axis=1), 1)
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The environment of a process that has the distribution installed."""
    # Building writes beside the sources, so it is done on a copy.
    source = shutil.copytree(SOURCE, tmp_path_factory.mktemp("source") / "acme")
    target = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    options = ["--no-deps", "--no-index", "--no-build-isolation", "--target", str(target)]
    subprocess.run([*command, *options, str(source)], check=True)
    return {**os.environ, "PYTHONPATH": str(target)}


def run(code, environment, *arguments):
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True)


@pytest.mark.slow
def test_the_registry_finds_it_and_says_where_it_came_from(installed):
    assert run(ASK_REGISTRY, installed).stdout.strip().split("|") == [
        "acme-taskspec",
        "1.2.3",
        "acme_taskspec.centroid",
        "Softmax over the negative squared distances to the tasks' mean vectors.",
    ]


@pytest.mark.slow
def test_the_command_line_lists_it_beside_the_first_party_ones(installed):
    command = [Path(sys.executable).with_name("taskspec"), "plugins"]
    result = subprocess.run(command, env=installed, check=True, capture_output=True, text=True)
    rows = [line.split("\t")[:4] for line in result.stdout.splitlines()]
    assert ["router", "acme-centroid", "acme-taskspec", "1.2.3"] in rows
    assert any(row[:3] == ["router", "logistic", "taskspec-decoding"] for row in rows)
    assert result.stderr == ""


@pytest.mark.slow
def test_a_recipes_choice_makes_a_router_that_survives_a_round_trip(installed, tmp_path):
    run(ROUTE, installed, tmp_path)
