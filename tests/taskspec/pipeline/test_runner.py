"""What goes wrong around a stage is told as it is, and costs the run no more than it must."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from stages import Writes, run_in

from taskspec.errors import CorpusError
from taskspec.hookspecs import hookimpl
from taskspec.registry import Registry, default_registry


@pytest.fixture
def registry() -> Registry:
    """The installed plugins, and an observer that always fails."""
    made = Registry.discover()
    module = ModuleType("acme_observer")

    @hookimpl
    def taskspec_stage_started(stage: str) -> None:
        raise KeyError(stage)

    @hookimpl
    def taskspec_stage_finished(stage: str) -> None:
        raise KeyError(stage)

    module.taskspec_stage_started = taskspec_stage_started  # type: ignore[attr-defined]
    module.taskspec_stage_finished = taskspec_stage_finished  # type: ignore[attr-defined]
    made._manager.register(module, "entry point 'observer' of acme-observer 1.0")
    return made


def test_an_observer_that_fails_costs_one_warning_in_every_run(
    write_recipe: Callable[..., Path], registry: Registry
) -> None:
    recipe = write_recipe()
    for _ in range(2):
        folder, said = run_in(
            recipe, [Writes("collect"), Writes("align")], "seed=3", registry=registry
        )
        assert (folder / "stages" / "02-align" / "seed.txt").read_text() == "3"
        assert said.count("warning:") == 1
        assert "of acme-observer 1.0 failed (KeyError: 'collect'); uninstall or update it" in said
    assert "warning:" not in run_in(recipe, [Writes("collect")], registry=default_registry())[1]


def test_a_run_that_fails_at_once_leaves_no_folders_but_what_others_put_there(
    write_recipe: Callable[..., Path],
) -> None:
    recipe = write_recipe()
    place = recipe.parent / "new"

    def fail() -> None:
        raise CorpusError("no prompts")

    def fail_beside_notes() -> None:
        (place / "notes.txt").write_text("mine")
        fail()

    for before, left in ((fail, []), (fail_beside_notes, [place / "notes.txt"])):
        with pytest.raises(CorpusError, match="no prompts"):
            run_in(recipe, [Writes("collect", before=before)], f"runs={place / 'runs'}")
        assert list(place.glob("**/*.*")) == left and not (place / "runs" / "tiny").exists()
