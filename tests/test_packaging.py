"""What is installed is what the tree holds, and starting up stays light."""

import subprocess
import sys
import tomllib
from importlib import resources
from importlib.metadata import distribution
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = ("torch", "transformers", "lightning", "sklearn", "peft", "sentence_transformers")


@pytest.fixture(scope="module")
def setuptools_config():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]


def packages_of_tree():
    """Every folder with an `__init__.py` in the three places that are installed."""
    places = {ROOT / "taskspec": "taskspec", ROOT / "recipes": "taskspec.recipes"}
    places |= {folder: folder.name for folder in (ROOT / "plugins").glob("taskspec_*")}
    found = set()
    for place, name in places.items():
        for marker in place.rglob("__init__.py"):
            found.add(".".join((name, *marker.parent.relative_to(place).parts)))
    return found


def test_the_listed_packages_are_those_of_the_tree(setuptools_config):
    listed = setuptools_config["packages"]
    assert set(listed) == packages_of_tree()
    assert len(listed) == len(set(listed))


def test_no_folder_with_code_lacks_its_init_file():
    places = [ROOT / "taskspec", *(ROOT / "plugins").glob("taskspec_*")]
    folders = {file.parent for place in places for file in place.rglob("*.py")}
    assert [folder for folder in folders if not (folder / "__init__.py").is_file()] == []


def test_packages_outside_of_taskspec_are_mapped_to_their_folders(setuptools_config):
    for package, folder in setuptools_config["package-dir"].items():
        assert (ROOT / folder / "__init__.py").is_file(), package


def test_every_plugin_package_has_an_entry_point_that_loads():
    entry_points = distribution("taskspec-decoding").entry_points.select(group="taskspec")
    assert {each.value for each in entry_points} == {
        folder.name for folder in (ROOT / "plugins").glob("taskspec_*")
    }
    for entry_point in entry_points:
        assert entry_point.load().__name__ == entry_point.value


def test_recipes_are_package_data():
    recipe = resources.files("taskspec.recipes") / "quickstart.yaml"
    assert recipe.read_text(encoding="utf-8") == (ROOT / "recipes/quickstart.yaml").read_text()


def test_the_types_are_published():
    assert (resources.files("taskspec") / "py.typed").is_file()


@pytest.mark.parametrize(
    "code",
    [
        "import taskspec, taskspec.interfaces, taskspec.hookspecs, taskspec.errors",
        "from typer.testing import CliRunner\n"
        "from taskspec.cli.main import app\n"
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0\n"
        "assert CliRunner().invoke(app, ['run', '--help']).exit_code == 0",
        # Modules with hooks are light too: their classes are imported when a hook is called.
        "from importlib.metadata import entry_points\n"
        "for entry_point in entry_points(group='taskspec'): entry_point.load()",
    ],
    ids=["import taskspec", "taskspec --help", "plugin packages"],
)
def test_starting_up_imports_nothing_heavy(code):
    code += f"\nimport sys\nprint([name for name in {HEAVY} if name in sys.modules])"
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    assert result.stdout.strip() == "[]"
