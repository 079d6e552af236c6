"""The recipe with one part switched off at a time."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from taskspec.cli.main import app
from taskspec.pipeline.artifacts import working_folder
from taskspec.pipeline.bench_ablation import CommonPool
from taskspec.pipeline.context import RunContext
from taskspec.recipe.choice import PluginChoice
from taskspec.recipe.loading import load_recipe
from taskspec.registry import default_registry
from taskspec.serving.pool import DraftEntry

VARIANTS = ("no-routing", "no-assignment", "random-clusters", "label-by-speed")


def invoke(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == code, result.output
    return " ".join(result.output.split())


@pytest.fixture
def recipe(write_recipe: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> str:
    """The tiny recipe; commands run beside it."""
    path = write_recipe("kd")
    monkeypatch.chdir(path.parent)
    return path.name


def finished(place: Path, text: str) -> Path:
    """A finished stage with one draft."""
    with working_folder(place, "the same settings") as work:
        (work / "small@task-0").mkdir()
        (work / "small@task-0" / "weights").write_text(text)
    return place


def test_drafts_of_several_runs_are_one_where_their_runs_made_the_same(
    recipe: str, tmp_path: Path
) -> None:
    registry = default_registry()
    loaded = load_recipe(recipe, [], registry)
    runs = {"full": "aligned", "no-routing": "aligned", "random-clusters": "otherwise"}
    contexts, names = {}, {}
    for run, text in runs.items():
        folder = tmp_path / run
        stage = {"align": finished(folder / "05-align", text)}
        contexts[run] = RunContext(loaded, registry, folder, Console(quiet=True), stage)
    pool = CommonPool(contexts["full"])
    for run, context in contexts.items():
        draft = context.stage_folders["align"] / "small@task-0"
        small = DraftEntry("small@task-0", PluginChoice("causal-lm"), draft)
        both = DraftEntry("both", PluginChoice("cascade"), draft, None, (small.name,))
        names[run] = pool.add(run, context, [both, small])
    assert names["full"] == names["no-routing"] == ["both", "small@task-0"]
    assert names["random-clusters"] == ["both@random-clusters", "small@task-0@random-clusters"]
    assert len(pool.entries) == 4
    assert pool.entries["both@random-clusters"].members == ("small@task-0@random-clusters",)


@pytest.mark.slow
def test_every_variant_shares_what_it_can_and_all_are_timed_together(recipe: str) -> None:
    asked = [part for name in VARIANTS for part in ("--variant", name)]
    command = ("bench", "ablation", recipe, "runs=runs", "evaluate.repeats=1", *asked)
    said = invoke(*command, "--out", "found")
    assert "no-routing: route.labels=task route.threshold=1" in said
    found = json.loads(Path("found/results.json").read_text())
    methods = list(dict.fromkeys(row["method"] for row in found["rows"]))
    assert methods == ["plain", "full", *VARIANTS]
    assert found["beside_method"] == "full"
    assert {row["method"] for row in found["beside"]} == {"plain", *VARIANTS}
    assert {row["task"] for row in found["beside"]} == {"low", "high", "all"}
    tokens = {(row["task"], row["tokens"]) for row in found["rows"]}
    assert len(tokens) == 3, "no draft may change an answer"

    def stage(variant: str, name: str) -> Path:
        return Path(f"runs/tiny-{variant}/stages/{name}/done.json")

    for variant in VARIANTS:
        assert stage(variant, "01-collect").samefile(stage("full", "01-collect"))
    assert stage("no-assignment", "05-align").samefile(stage("full", "05-align"))
    assert not stage("random-clusters", "05-align").samefile(stage("full", "05-align"))
    assert not Path("runs/tiny").exists()

    before = Path("found/results.json").stat().st_mtime_ns
    said = invoke(*command, "--out", "found")
    assert said.count("finished before") == 7 * (1 + len(VARIANTS))
    assert Path("found/results.json").stat().st_mtime_ns == before


def test_a_variant_that_there_is_not_is_refused(recipe: str) -> None:
    said = invoke("bench", "ablation", recipe, "--variant", "no-luck", code=2)
    assert "there is no variant 'no-luck'; there are: no-routing, no-alignment" in said
