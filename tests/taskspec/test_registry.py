"""The registry against real distributions on `sys.path`."""

import itertools
import sys
from importlib.metadata import distributions
from textwrap import dedent

import pytest

from taskspec.errors import PluginError, Terminated
from taskspec.interfaces import Router
from taskspec.registry import KINDS, Registry

HEADER = """
from dataclasses import dataclass
from pathlib import Path

from taskspec.hookspecs import hookimpl
from taskspec.interfaces import Router, option


class Base(Router):
    def fit(self, vectors, labels, seed): ...
    def predict_proba(self, vectors): ...
    def save(self, folder): ...
    @classmethod
    def load(cls, folder, options): ...
"""
ROUTER = """
class {class_name}(Base):
    \"\"\"Routes by magic.

    And more.
    \"\"\"

    name = "{name}"


@hookimpl
def taskspec_routers():
    return ({class_name},)
"""


class Site:
    """A folder on `sys.path` with installed distributions."""

    def __init__(self, folder):
        self.folder = folder
        self.modules = set()

    def install(self, distribution, module, code=None, version="1.0", entry_point="plugins"):
        """Install a distribution whose entry point names `module`, with this code if any."""
        info = self.folder / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n"
        )
        (info / "entry_points.txt").write_text(f"[taskspec]\n{entry_point} = {module}\n")
        if code is not None:
            (self.folder / f"{module}.py").write_text(HEADER + dedent(code))
        self.modules.add(module)

    def install_router(self, distribution, module, name, class_name="Magic", **more):
        self.install(distribution, module, ROUTER.format(class_name=class_name, name=name), **more)

    def registry(self):
        """A registry of what is installed here, and nothing else."""
        found = distributions(path=[str(self.folder)])
        entry_points = itertools.chain.from_iterable(each.entry_points for each in found)
        return Registry(each for each in entry_points if each.group == "taskspec")


@pytest.fixture
def site(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    site = Site(tmp_path)
    yield site
    for module in site.modules:
        sys.modules.pop(module, None)


def only_failure(registry):
    (failure,) = registry.failures
    return failure


def test_a_plugin_is_found_with_its_provenance(site):
    site.install_router("acme-magic", "acme_magic", "magic", version="2.5")
    registry = site.registry()
    (record,) = registry.plugins()
    assert (record.kind, record.name) == ("router", "magic")
    assert (record.distribution, record.version) == ("acme-magic", "2.5")
    assert (record.module, record.summary) == ("acme_magic", "Routes by magic.")
    assert registry.get("router", "magic") is record.plugin
    assert issubclass(record.plugin, Router)
    assert registry.failures == () and registry.clashes == ()


def test_discovery_reads_what_is_on_the_path(site):
    site.install_router("acme-magic", "acme_magic", "magic")
    registry = Registry.discover()
    assert registry.record("router", "magic").distribution == "acme-magic"
    assert registry.record("router", "logistic").distribution == "taskspec-decoding"


def test_an_older_copy_further_down_the_path_is_shadowed(site, tmp_path_factory, monkeypatch):
    site.install_router("acme-magic", "acme_magic", "magic", version="2.0")
    old = Site(tmp_path_factory.mktemp("old"))
    old.install_router("acme-magic", "acme_gone", "gone", version="1.0", entry_point="gone")
    monkeypatch.syspath_prepend(str(old.folder))
    monkeypatch.syspath_prepend(str(site.folder))
    registry = Registry.discover()
    assert registry.record("router", "magic").version == "2.0"
    with pytest.raises(PluginError, match="no router named 'gone'"):
        registry.get("router", "gone")


def test_first_party_plugins_come_in_by_entry_points_and_fill_every_kind():
    registry = Registry.discover()
    assert {record.kind for record in registry.plugins()} == set(KINDS)
    assert registry.failures == () and registry.clashes == ()


def test_two_distributions_may_use_the_same_entry_point_name(site):
    site.install_router("acme-a", "acme_a", "a")
    site.install_router("acme-b", "acme_b", "b")
    assert [record.name for record in site.registry().plugins()] == ["a", "b"]


def test_a_missing_plugin_is_answered_with_a_suggestion_and_what_is_installed(site):
    site.install_router("acme-a", "acme_a", "magic")
    site.install_router("acme-b", "acme_b", "other")
    with pytest.raises(PluginError) as caught:
        site.registry().get("router", "magik")
    assert str(caught.value) == (
        "no router named 'magik'. Did you mean 'magic'? Installed: magic, other."
    )


def test_a_missing_plugin_of_a_kind_without_plugins_says_none(site):
    with pytest.raises(PluginError, match="Installed: none"):
        site.registry().get("router", "magic")


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import a_package_that_nobody_has", "a_package_that_nobody_has"),
        ("raise RuntimeError('no licence')", "RuntimeError: no licence"),
        ("def broken(:", "SyntaxError"),
        ("@hookimpl\ndef taskspec_routers():\n    import a_package_that_nobody_has", "nobody_has"),
    ],
)
def test_a_broken_distribution_is_named_and_leaves_the_others_alone(site, code, reason):
    site.install("acme-broken", "acme_broken", code, version="3.1", entry_point="ours")
    site.install_router("acme-magic", "acme_magic", "magic")
    registry = site.registry()
    assert [record.name for record in registry.plugins()] == ["magic"]
    failure = only_failure(registry)
    assert (failure.distribution, failure.entry_point) == ("acme-broken 3.1", "ours")
    assert reason in failure.reason and "uninstall" in failure.reason
    with pytest.raises(PluginError, match="(?s)no router named 'x'.*'ours' of acme-broken 3.1"):
        registry.get("router", "x")


def test_a_distribution_without_its_module_is_named(site):
    site.install("acme-empty", "acme_empty")
    failure = only_failure(site.registry())
    assert failure.distribution == "acme-empty 1.0" and "acme_empty" in failure.reason


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("@hookimpl\ndef taskspec_rooters(): return ()", "did you mean 'taskspec_routers'?"),
        ("@hookimpl(specname='taskspec_rooters')\ndef offer(): return ()", "'taskspec_routers'"),
        ("def taskspec_routers(): return ()", "lacks @taskspec.hookspecs.hookimpl"),
        ("@hookimpl\ndef taskspec_routers(kind): return ()", "kind"),
        ("@hookimpl\ndef taskspec_routers(): pass", "returned None; return a tuple"),
        ("@hookimpl\ndef taskspec_routers(): return Base", "return a tuple"),
        ("", "has no hook"),
    ],
)
def test_a_hook_that_nobody_would_call_is_reported(site, code, reason):
    site.install("acme-hooks", "acme_hooks", code)
    site.install_router("acme-magic", "acme_magic", "magic")
    registry = site.registry()
    assert reason in only_failure(registry).reason
    assert [record.name for record in registry.plugins()] == ["magic"]


def test_an_entry_point_must_name_a_module(site):
    site.install_router("acme-magic", "acme_magic", "magic")
    site.install("acme-class", "acme_magic:Magic")
    assert "no module" in only_failure(site.registry()).reason


def test_a_hook_may_go_by_another_name_and_yield(site):
    code = """
    class Magic(Base):
        name = "magic"

    @hookimpl(specname="taskspec_routers")
    def offer():
        yield Magic
    """
    site.install("acme-magic", "acme_magic", code)
    assert [record.name for record in site.registry().plugins()] == ["magic"]


def test_a_name_that_two_distributions_claim_belongs_to_neither(site):
    site.install_router("acme-a", "acme_a", "magic", class_name="Magic")
    site.install_router("acme-b", "acme_b", "magic", class_name="Sorcery", version="2.0")
    site.install_router("acme-c", "acme_c", "other")
    registry = site.registry()
    assert [record.name for record in registry.plugins()] == ["other"]
    with pytest.raises(PluginError) as caught:
        registry.get("router", "magic")
    assert "acme_a.Magic of acme-a 1.0" in str(caught.value)
    assert "acme_b.Sorcery of acme-b 2.0" in str(caught.value)
    assert registry.clashes == (str(caught.value),)


def test_strangers_cannot_take_the_name_of_a_first_party_plugin(site):
    site.install_router("acme-magic", "acme_magic", "logistic")
    registry = Registry.discover()
    with pytest.raises(PluginError, match="(?s)acme-magic 1.0.*taskspec-decoding"):
        registry.get("router", "logistic")
    assert registry.get("partitioner", "kmeans").name == "kmeans"


def test_two_distributions_with_one_module_are_both_named(site):
    site.install_router("acme-new", "acme_magic", "magic")
    site.install("acme-old", "acme_magic")
    registry = site.registry()
    failure = only_failure(registry)
    assert failure.distribution == "acme-old 1.0"
    assert failure.reason.startswith("acme_magic is loaded already")
    assert "acme-new 1.0" in failure.reason
    assert registry.record("router", "magic").distribution == "acme-new"


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("class Magic:\n    name = 'magic'", "does not inherit from taskspec.interfaces.Router"),
        ("Magic = Base()", "does not inherit"),
        ("class Magic(Base):\n    pass", "has no `name`"),
        ("class Magic(Base):\n    name = 3", "has no `name`"),
        ("class Magic(Base):\n    name = 'My Magic'", "lower case"),
        ("class Magic(Router):\n    name = 'magic'", "lacks fit, load, predict_proba, save"),
        (
            "@dataclass\nclass O:\n    size: int = option(3, 'Size.')\n\n"
            "class Magic(Base):\n    name = 'magic'\n    Options = O",
            "acme_magic.Magic.Options is no frozen dataclass",
        ),
        (
            "class O(Base.Options):\n    size: int = 3\n\n"
            "class Magic(Base):\n    name = 'magic'\n    Options = O",
            "is no frozen dataclass",
        ),
        (
            "class Magic(Base):\n    name = 'magic'\n    Options = {'size': 3}",
            "is no frozen dataclass",
        ),
        (
            "@dataclass(frozen=True)\nclass O:\n    size: int = 3\n\n"
            "class Magic(Base):\n    name = 'magic'\n    Options = O",
            "acme_magic.Magic.Options.size is undocumented",
        ),
    ],
)
def test_a_class_that_breaks_the_contract_is_refused(site, code, reason):
    hook = "\n\n@hookimpl\ndef taskspec_routers():\n    return (Magic,)\n"
    site.install("acme-magic", "acme_magic", code + hook)
    registry = site.registry()
    assert registry.plugins() == ()
    assert reason in only_failure(registry).reason


def test_recipe_folders_come_with_the_distribution_that_ships_them(site, tmp_path):
    (tmp_path / "recipes").mkdir()
    code = """
    @hookimpl
    def taskspec_recipes():
        return (Path(__file__).parent / "recipes",)
    """
    site.install("acme-recipes", "acme_recipes", code)
    assert site.registry().recipe_folders() == [("acme-recipes", tmp_path / "recipes")]


@pytest.mark.parametrize("offered", ["'recipes'", "(Path('nowhere'),)"])
def test_recipe_folders_that_are_none_are_reported(site, offered):
    site.install("acme-x", "acme_x", f"@hookimpl\ndef taskspec_recipes(): return {offered}")
    registry = site.registry()
    assert registry.recipe_folders() == []
    assert "no folder" in only_failure(registry).reason


def test_observers_are_called_and_those_of_refused_modules_are_not(site):
    observer = """
    seen = []

    @hookimpl
    def taskspec_stage_started(stage):
        seen.append(stage)
    """
    site.install("acme-observer", "acme_observer", observer)
    wrong = """
    @hookimpl
    def taskspec_routers():
        return ("no class",)
    """
    site.install("acme-wrong", "acme_wrong", observer + wrong)
    registry = site.registry()
    assert registry.tell("taskspec_stage_started", stage="encode", folder=site.folder) == {}
    assert sys.modules["acme_observer"].seen == ["encode"]
    assert sys.modules["acme_wrong"].seen == []


@pytest.mark.parametrize("names", [("acme-a", "acme-b"), ("acme-b", "acme-a")])
def test_an_observer_that_fails_is_named_and_hides_no_other(site, names):
    failing, watching = names
    broken = "@hookimpl\ndef taskspec_stage_started(stage): raise KeyError(stage)"
    site.install(failing, failing.replace("-", "_"), broken)
    seen = "seen = []\n\n@hookimpl\ndef taskspec_stage_started(stage): seen.append(stage)"
    site.install(watching, watching.replace("-", "_"), seen)
    registry = site.registry()
    failed = registry.tell("taskspec_stage_started", stage="encode", folder=site.folder)
    assert list(failed) == [f"entry point 'plugins' of {failing} 1.0"]
    assert repr(*failed.values()) == "KeyError('encode')"
    assert sys.modules[watching.replace("-", "_")].seen == ["encode"]


@pytest.mark.parametrize("where", ["while it loads", "in its observer"])
def test_a_signal_is_no_failure_of_a_plugin(site, where):
    ended = "from taskspec.errors import Terminated\n"
    hook = "@hookimpl\ndef taskspec_stage_started(stage): raise Terminated('SIGTERM')"
    site.install("acme", "acme", ended + (hook if "observer" in where else "raise Terminated()"))
    with pytest.raises(Terminated):
        site.registry().tell("taskspec_stage_started", stage="encode", folder=site.folder)
