"""What makes a well-formed recipe unrunnable: plugins, their options, files, combinations."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, cast

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from taskspec.errors import CorpusError, PluginError, Problem
from taskspec.interfaces.sampling import GREEDY_EPSILON
from taskspec.recipe.corpus_path import resolve_corpus
from taskspec.recipe.plugins import first_line
from taskspec.recipe.schema import PluginChoice, Recipe
from taskspec.registry import Registry

if TYPE_CHECKING:
    from taskspec.interfaces import Aligner, Verifier

Places = Callable[[str], str]


def choices(recipe: Recipe) -> Iterator[tuple[str, str, PluginChoice]]:
    """Every plugin choice of a recipe: its path, its kind, the choice."""
    yield "encode", "encoder", recipe.encode
    yield "partition", "partitioner", recipe.partition
    for name, choice in recipe.draft.pool.items():
        yield f"draft.pool.{name}", "drafter", choice
    yield "align", "aligner", recipe.align
    yield "align.recovery", "aligner", recipe.align.recovery
    yield "route", "router", recipe.route
    yield "route.encoder", "encoder", recipe.route.encoder
    yield "decode.verifier", "verifier", recipe.decode.verifier


def check_recipe(
    recipe: Recipe, folder: Path | None, registry: Registry, places: Places
) -> list[Problem]:
    """All problems beyond the schema.

    Args:
        recipe: The recipe.
        folder: Its folder, or None for a shipped one.
        registry: The plugins.
        places: Says where a path was set.
    """
    problems = []
    for path, kind, choice in choices(recipe):
        problems += _check_choice(path, kind, choice, registry, places)
    for name in recipe.draft.pool:
        if not name.replace("-", "").replace("_", "").isalnum():
            where = f"draft.pool.{name}"
            problems.append(
                Problem(places(where), where, "name drafts with letters, digits, - and _ only")
            )
    if not recipe.name.replace("-", "").replace("_", "").replace(".", "").isalnum():
        problems.append(
            Problem(places("name"), "name", "name runs with letters, digits, -, _ and . only")
        )
    try:
        resolve_corpus(recipe.corpus.path, folder)
    except CorpusError as error:
        problems.append(Problem(places("corpus.path"), "corpus.path", str(error)))
    return problems + _check_combinations(recipe, registry, places)


def _check_choice(
    path: str, kind: str, choice: PluginChoice, registry: Registry, places: Places
) -> list[Problem]:
    try:
        plugin = registry.get(kind, choice.use)
    except PluginError as error:
        return [Problem(places(f"{path}.use"), f"{path}.use", str(error))]
    problems = []
    schema = OmegaConf.structured(plugin.Options)
    known = list(schema)
    for key, value in choice.options.items():
        where = f"{path}.options.{key}"
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean '{close[0]}'? " if close else ""
            options = ", ".join(known) or "none"
            message = f"no such option of '{choice.use}'; {hint}Options: {options}"
            problems.append(Problem(places(where), where, message))
            continue
        try:
            OmegaConf.merge(schema, {key: value})
        except OmegaConfBaseException as error:
            problems.append(Problem(places(where), where, first_line(error)))
    if not problems:
        try:
            OmegaConf.to_object(OmegaConf.merge(schema, choice.options))
        except (OmegaConfBaseException, ValueError) as error:
            where = f"{path}.options"
            problems.append(Problem(places(where), where, first_line(error)))
    return problems


def _check_combinations(recipe: Recipe, registry: Registry, places: Places) -> list[Problem]:
    problems = []
    known = {(record.kind, record.name): record.plugin for record in registry.plugins()}
    verifier = known.get(("verifier", recipe.decode.verifier.use))
    sampling = recipe.decode.temperature >= GREEDY_EPSILON
    if verifier is not None and sampling and not cast("type[Verifier]", verifier).samples:
        message = (
            f"'{recipe.decode.verifier.use}' is for greedy decoding only; set "
            "decode.temperature to 0 or use 'rejection'"
        )
        problems.append(Problem(places("decode.verifier"), "decode.verifier.use", message))
    recovery = known.get(("aligner", recipe.align.recovery.use))
    if recovery is not None and cast("type[Aligner]", recovery).adapts:
        message = (
            f"'{recipe.align.recovery.use}' trains adapters, but a draft cut from the target must "
            "learn as a whole; use 'kd'"
        )
        problems.append(Problem(places("align.recovery"), "align.recovery.use", message))
    return problems
