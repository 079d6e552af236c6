"""A registry of plugins made here, and recipes written to a folder."""

from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from taskspec.errors import RecipeError
from taskspec.hookspecs import hookimpl
from taskspec.interfaces import (
    Aligner,
    Drafter,
    Encoder,
    NoOptions,
    Partitioner,
    Router,
    Verifier,
    option,
)
from taskspec.recipe.loading import load_recipe
from taskspec.registry import Registry

MINIMAL = """\
name: trial
target: {model: some/model}
corpus: {path: prompts.jsonl}
draft:
  pool:
    small: {use: cut, options: {layers: 2}}
"""


@dataclass(frozen=True)
class ClusterOptions:
    clusters: int = option(3, "Number of tasks.")
    least: int = option(2, "Fewest prompts of a task.")
    most: int = option(20, "Most prompts of a task.")

    def __post_init__(self):
        if self.clusters < 1:
            raise ValueError(f"clusters must be at least 1, not {self.clusters}")
        if self.least < 1:
            raise ValueError(f"least must be at least 1, not {self.least}")
        if self.most < self.least:
            raise ValueError("a task's most prompts are fewer than its least")


@dataclass(frozen=True)
class CutOptions:
    layers: int = option("???", "Layers to keep.")
    extra: Any = option(None, "Anything.")
    table: dict[str, Any] = option({}, "Named anythings.")


@dataclass(frozen=True)
class SeveralOptions:
    drafts: list[str] = option([], "Drafts of the pool.")


def make_class(interface, name, options=NoOptions, **attributes):
    """A concrete class of a plugin kind whose methods do nothing."""
    methods = {method: lambda self: None for method in interface.__abstractmethods__}
    attributes = {**methods, "name": name, "Options": options, **attributes}
    return type(name.title(), (interface,), attributes)


PLUGINS = {
    "encoders": [make_class(Encoder, "tfidf")],
    "partitioners": [
        make_class(Partitioner, "kmeans", ClusterOptions),
        make_class(Partitioner, "hdbscan"),
    ],
    "drafters": [
        make_class(Drafter, "cut", CutOptions),
        make_class(Drafter, "lookup"),
        make_class(
            Drafter,
            "several",
            SeveralOptions,
            members=classmethod(lambda cls, options: tuple(options.drafts)),
        ),
    ],
    "aligners": [
        make_class(Aligner, "kd", adapts=False),
        make_class(Aligner, "lora-kd", adapts=True),
    ],
    "routers": [make_class(Router, "logistic")],
    "verifiers": [
        make_class(Verifier, "greedy", samples=False),
        make_class(Verifier, "rejection", samples=True),
    ],
}


def make_registry(recipe_folders=None):
    """A registry of the plugins above.

    Args:
        recipe_folders: Folders of recipes by the distribution that ships them.
    """

    def offer(distribution, hooks):
        module = ModuleType(distribution)
        for name, offered in hooks.items():
            setattr(module, name, hookimpl(specname=name)(lambda offered=tuple(offered): offered))
        dist = SimpleNamespace(name=distribution, version="1.0")
        return SimpleNamespace(name=distribution, dist=dist, load=lambda: module)

    modules = [offer("tiny", {f"taskspec_{kind}": each for kind, each in PLUGINS.items()})]
    for distribution, folder in (recipe_folders or {}).items():
        modules.append(offer(distribution, {"taskspec_recipes": [folder]}))
    registry = Registry(modules)
    assert not registry.failures
    return registry


@pytest.fixture(scope="session")
def registry():
    return make_registry()


@pytest.fixture
def registry_with_recipes():
    """Makes a registry whose distributions ship folders of recipes."""
    return make_registry


@pytest.fixture
def minimal():
    """The shortest recipe that loads."""
    return MINIMAL


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working directory, with a prompt file."""
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "hello"}\n')
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def load(folder, registry):
    """Writes a recipe as my.yaml and loads it."""

    def load(text, *overrides):
        Path("my.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
        return load_recipe("my.yaml", overrides, registry)

    return load


@pytest.fixture
def problems(load):
    """Loads a recipe that must fail and gives its problems, as shown to the user."""

    def problems(text, *overrides):
        with pytest.raises(RecipeError) as caught:
            load(text, *overrides)
        return [str(problem) for problem in caught.value.problems]

    return problems
