"""A run is finished when its stages are what its own recipe made."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from stages import Writes, run_in

from taskspec.errors import ArtifactError
from taskspec.pipeline.run_folder import RunFolder, open_run

NAMES = ["collect", "align"]


def stop() -> None:
    raise KeyboardInterrupt


def opened(folder: Path) -> RunFolder:
    return open_run(folder, NAMES, {})


@pytest.fixture
def recipe(write_recipe: Callable[..., Path]) -> Path:
    return write_recipe()


def finish(recipe: Path) -> Path:
    return run_in(recipe, [Writes(name) for name in NAMES])[0]


def test_what_another_recipe_left_half_made_does_not_matter(recipe: Path) -> None:
    folder = finish(recipe)
    with pytest.raises(KeyboardInterrupt):
        run_in(recipe, [Writes("collect"), Writes("align", then=stop)], "seed=7")
    finish(recipe)
    with pytest.raises(KeyboardInterrupt):
        run_in(recipe, [Writes("collect", then=stop)], "seed=7")
    assert list((folder / "stages").glob(".*.partial"))
    finish(recipe)
    assert opened(folder).file("align", "seed.txt").read_text() == "0"


def test_a_recipe_that_has_made_nothing_yet_has_no_stages(recipe: Path) -> None:
    folder = finish(recipe)
    with pytest.raises(KeyboardInterrupt):
        run_in(recipe, [Writes("collect", before=stop)], "seed=7")
    assert not list((folder / "stages").glob(".*.partial"))
    with pytest.raises(ArtifactError, match="not finished: stage collect is of no whole run"):
        opened(folder)
    finish(recipe)
    assert opened(folder).path == folder


def test_a_stage_made_again_waits_for_those_after_it(recipe: Path) -> None:
    folder = finish(recipe)
    (folder / "stages" / "01-collect" / "done.json").unlink()
    changed = Writes("collect", lambda: Path(folder, "stages/.01-collect.partial/more").touch())
    with pytest.raises(KeyboardInterrupt):
        run_in(recipe, [changed, Writes("align"), Writes("assign", before=stop)])
    with pytest.raises(ArtifactError, match="not finished: stage collect"):
        opened(folder)


def test_a_run_of_some_stages_has_no_others(recipe: Path) -> None:
    folder, _ = run_in(recipe, [Writes("collect")])
    assert open_run(folder, ["collect"], {}).stages == {"collect": folder / "stages/01-collect"}
    with pytest.raises(ArtifactError, match="not finished: stage align is missing; run its recipe"):
        opened(folder)


def test_a_run_without_a_mark_gets_one_when_its_recipe_is_run_again(recipe: Path) -> None:
    folder = finish(recipe)
    (folder / "run.json").unlink()
    with pytest.raises(ArtifactError, match="run its recipe again"):
        opened(folder)
    finish(recipe)
    assert list(opened(folder).done) == NAMES
