"""Checks of what all plugin kinds share."""

from __future__ import annotations

import dataclasses
import pickle
import random
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from taskspec.declarations import check_class
from taskspec.errors import PluginError
from taskspec.recipe.choice import PluginChoice
from taskspec.recipe.plugins import check_options
from taskspec.registry import KINDS
from taskspec.testing.check import ANY, check, kind_of, require
from taskspec.testing.exercises import exercise_of, same

_PICKLES = {".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".joblib", ".bin"}
_PICKLE_START = b"\x80"


@check(ANY)
def check_declaration(plugin: Any) -> None:
    """The class has a proper name, a docstring, and documented options."""
    kind = kind_of(plugin)
    try:
        check_class(type(plugin), kind, KINDS[kind])
    except PluginError as error:
        require(False, str(error))
    own = vars(type(plugin)).get("__doc__")
    require(own and own.strip(), f"{type(plugin).__qualname__} has no docstring; say what it does")


@check(ANY)
def check_default_options_construct(plugin: Any) -> None:
    """Without options the plugin takes the defaults."""
    fields = dataclasses.fields(type(plugin).Options)
    missing = dataclasses.MISSING
    if any(each.default is missing and each.default_factory is missing for each in fields):
        return
    made = type(plugin)()
    require(
        made.options == type(plugin).Options(),
        "constructed without options, `options` are not the defaults; call "
        "super().__init__(options)",
    )


@check(ANY)
def check_options_round_trip(plugin: Any) -> None:
    """Options written to YAML and read back are equal."""
    written = yaml.safe_dump(dataclasses.asdict(plugin.options))
    choice = PluginChoice(use=plugin.name, options=yaml.safe_load(written))
    converted, problems = check_options(type(plugin), choice)
    require(not problems, f"its own options are refused after YAML: {problems}")
    again = type(plugin).Options(**converted)
    require(again == plugin.options, f"options changed in YAML: {plugin.options} became {again}")


@check(ANY)
def check_options_are_kept(plugin: Any) -> None:
    """Use does not change the options; they say what the plugin was made with."""
    before = repr(plugin.options)
    prepared = exercise_of(plugin).prepare(plugin)
    require(repr(plugin.options) == before, "its options changed while it was used")
    require(prepared.options == plugin.options, "it was built with other options than asked for")


@check(ANY)
def check_global_generators_untouched(plugin: Any) -> None:
    """Neither Python's, NumPy's nor torch's global generator is used or seeded."""
    exercise = exercise_of(plugin)
    exercise.results(exercise.prepare(plugin))
    for phase in ("prepared", "used"):
        prepared = plugin if phase == "prepared" else exercise.prepare(plugin)
        with _moved_generators():
            before = _global_states()
            if phase == "prepared":
                exercise.prepare(plugin)
            else:
                exercise.results(prepared)
            after = _global_states()
        for name, state in after.items():
            require(
                state == before[name],
                f"{name}'s global generator moved while the plugin was {phase}; use a generator "
                "of its own, made from the seed it is given",
            )


@contextmanager
def _moved_generators() -> Iterator[None]:
    """Bring the global generators where nobody seeds them to; they come back afterwards."""
    python, numpy, pytorch = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(987_001)
    np.random.seed(987_002)
    torch.manual_seed(987_003)
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_rng_state(pytorch)


def _global_states() -> dict[str, str]:
    """State of every global generator."""
    _, key, position, *_ = np.random.get_state()
    return {
        "random": repr(random.getstate()),
        "numpy": repr((np.asarray(key).tolist(), position)),
        "torch": repr(torch.get_rng_state().tolist()),
    }


@check(ANY)
def check_repeatable(plugin: Any) -> None:
    """The same inputs and seed give the same results."""
    exercise = exercise_of(plugin)
    prepared = exercise.prepare(plugin)
    first = exercise.results(prepared)
    require(same(first, exercise.results(prepared)), "asked twice, it answers differently")
    again = exercise.results(exercise.prepare(plugin))
    require(same(first, again), "prepared twice from the same inputs and seed, it differs")


@check(ANY)
def check_picklable_for_workers(plugin: Any) -> None:
    """It travels to worker processes: a prepared plugin can be pickled and still answers."""
    exercise = exercise_of(plugin)
    prepared = exercise.prepare(plugin)
    expected = exercise.results(exercise.prepare(plugin))
    try:
        travelled = pickle.loads(pickle.dumps(prepared))
    except Exception as error:
        require(False, f"cannot be pickled for worker processes: {error}")
    require(same(expected, exercise.results(travelled)), "after pickling it answers differently")


@check(ANY)
def check_saved_state_restores(plugin: Any) -> None:
    """What `save` wrote, moved elsewhere, loads into a plugin that answers equally."""
    exercise = exercise_of(plugin)
    if exercise.load is None:
        return
    prepared = exercise.prepare(plugin)
    expected = exercise.results(prepared)
    with tempfile.TemporaryDirectory() as place:
        first, moved = Path(place) / "saved", Path(place) / "moved"
        first.mkdir()
        prepared.save(first)
        shutil.move(first, moved)
        loaded = exercise.load(plugin, moved)
        found = exercise.results(loaded)
    require(same(expected, found), "loaded from what it saved, it answers differently")


@check(ANY)
def check_saves_no_pickle(plugin: Any) -> None:
    """Saved files cannot run code when they are opened."""
    exercise = exercise_of(plugin)
    if exercise.load is None:
        return
    with tempfile.TemporaryDirectory() as place:
        exercise.prepare(plugin).save(Path(place))
        for path in Path(place).rglob("*"):
            if path.is_file():
                require(not _is_pickle(path), f"{path.name} is a pickle; use safetensors and JSON")


def _is_pickle(path: Path) -> bool:
    start = path.read_bytes()[:9]
    if path.suffix == ".safetensors":  # eight bytes of length, then JSON
        return not start.endswith(b"{")
    return path.suffix in _PICKLES or start.startswith(_PICKLE_START)
