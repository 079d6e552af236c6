"""What makes a well-formed recipe unrunnable: plugins, their options, files, combinations."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from taskspec.errors import CorpusError, PluginError, Problem
from taskspec.interfaces.sampling import GREEDY_EPSILON
from taskspec.recipe.choice import PluginChoice
from taskspec.recipe.corpus_path import resolve_corpus
from taskspec.recipe.lines import Places
from taskspec.recipe.plugins import check_options
from taskspec.recipe.schema import Recipe
from taskspec.registry import Registry

if TYPE_CHECKING:
    from taskspec.interfaces import Drafter

_DRAFT_NAME = re.compile(r"\w[\w-]*")
_RUN_NAME = re.compile(r"\w[\w.-]*")


def choices(recipe: Recipe) -> Iterator[tuple[str, str, PluginChoice]]:
    """Every plugin choice of a recipe: its path, its kind, the choice."""
    yield "encode", "encoder", recipe.encode
    yield "partition", "partitioner", recipe.partition
    for name, choice in recipe.draft.pool.items():
        yield f"draft.pool.{name}", "drafter", choice
    yield "align", "aligner", recipe.align
    for name, choice in recipe.align.drafts.items():
        yield f"align.drafts.{name}", "aligner", choice
    yield "align.recovery", "aligner", recipe.align.recovery
    yield "route", "router", recipe.route
    yield "route.encoder", "encoder", recipe.route.encoder
    yield "decode.verifier", "verifier", recipe.decode.verifier


def check_recipe(
    recipe: Recipe,
    folder: Path | None,
    registry: Registry,
    places: Places,
    found: Sequence[Problem] = (),
) -> list[Problem]:
    """All problems beyond the schema.

    Args:
        recipe: The recipe.
        folder: The folder that its relative paths start at; None for none.
        registry: The plugins.
        places: Says where a path was set.
        found: Problems known already; what they are about is not checked again.
    """
    return list(_Checks(registry, places, found).run(recipe, folder))


class _Checks:
    def __init__(self, registry: Registry, places: Places, found: Sequence[Problem]) -> None:
        self._registry, self._places = registry, places
        self._found = [problem.path for problem in found]

    def run(self, recipe: Recipe, folder: Path | None) -> Iterator[Problem]:
        if self._is_sound("name") and not _RUN_NAME.fullmatch(recipe.name):
            yield self._problem("name", "name runs with letters, digits, -, _ and . only")
        for name in recipe.draft.pool if self._is_sound("draft.pool") else ():
            if not _DRAFT_NAME.fullmatch(name):
                message = "name drafts with letters, digits, - and _ only"
                yield self._problem(f"draft.pool.{name}", message)
        if self._is_sound("corpus.path"):
            try:
                resolve_corpus(recipe.corpus.path, folder)
            except CorpusError as error:
                yield self._problem("corpus.path", str(error))
        for path, kind, choice in choices(recipe):
            if self._is_sound(f"{path}.use"):
                yield from self._choice(path, kind, choice)
        yield from self._temperature(recipe)
        yield from self._memory(recipe)
        yield from self._recovery(recipe)
        yield from self._members(recipe)
        yield from self._named(recipe)

    def _choice(self, path: str, kind: str, choice: PluginChoice) -> Iterator[Problem]:
        try:
            plugin = self._registry.get(kind, choice.use)
        except PluginError as error:
            yield self._problem(f"{path}.use", str(error))
            return
        if self._is_sound(f"{path}.options"):
            for name, message in check_options(plugin, choice)[1]:
                options = f"{path}.options"
                yield self._problem(f"{options}.{name}" if name else options, message)

    def _temperature(self, recipe: Recipe) -> Iterator[Problem]:
        name = recipe.decode.verifier.use
        samples = self._declared("verifier", "samples")
        if recipe.decode.temperature >= GREEDY_EPSILON and samples.get(name) is False:
            fit = ", ".join(each for each in samples if samples[each]) or "none is installed"
            message = (
                f"the verifier '{name}' is right for temperature 0 only; set temperature to 0, or "
                f"decode.verifier to one that samples: {fit}"
            )
            yield self._problem("decode.temperature", message)

    def _memory(self, recipe: Recipe) -> Iterator[Problem]:
        remembers = self._declared("drafter", "remembers")
        used = {choice.use for choice in recipe.draft.pool.values()}
        if recipe.decode.remember > 0 and not any(remembers.get(name, True) for name in used):
            fit = ", ".join(each for each in remembers if remembers[each]) or "none is installed"
            message = (
                f"no draft of the pool remembers answers; set it to 0, or add one that does: {fit}"
            )
            yield self._problem("decode.remember", message)

    def _recovery(self, recipe: Recipe) -> Iterator[Problem]:
        name = recipe.align.recovery.use
        adapts = self._declared("aligner", "adapts")
        if adapts.get(name) is True:
            fit = ", ".join(each for each in adapts if not adapts[each]) or "none is installed"
            message = (
                f"'{name}' trains adapters, but a draft cut from the target must learn as a "
                f"whole; use one that does: {fit}"
            )
            yield self._problem("align.recovery.use", message)

    def _members(self, recipe: Recipe) -> Iterator[Problem]:
        pool = recipe.draft.pool
        members: dict[str, tuple[str, ...]] = {}
        for name, choice in pool.items():
            try:
                plugin = cast("type[Drafter]", self._registry.get("drafter", choice.use))
            except PluginError:
                continue
            options, problems = check_options(plugin, choice)
            members[name] = () if problems else plugin.members(plugin.Options(**options))
        for name, named in members.items():
            path = f"draft.pool.{name}.options"
            for member in dict.fromkeys(named):
                if named.count(member) > 1:
                    message = f"'{member}' is named {named.count(member)} times; name it once"
                    yield self._problem(path, message)
                if member not in pool:
                    others = ", ".join(each for each in pool if each != name) or "none"
                    message = f"the pool has no draft '{member}'; it has: {others}"
                    yield self._problem(path, message)
                elif members.get(member):
                    message = f"'{member}' drafts with others itself; name those drafts instead"
                    yield self._problem(path, message)

    def _named(self, recipe: Recipe) -> Iterator[Problem]:
        pool = recipe.draft.pool
        named = [("assign.drafts", name) for name in recipe.assign.drafts]
        named += [(f"align.drafts.{name}", name) for name in recipe.align.drafts]
        for path, name in named:
            if self._is_sound(path) and name not in pool:
                message = f"the pool has no draft '{name}'; it has: {', '.join(pool)}"
                yield self._problem(path, message)

    def _declared(self, kind: str, attribute: str) -> dict[str, bool]:
        """What each installed plugin of a kind says of itself."""
        records = self._registry.plugins()
        return {r.name: getattr(r.plugin, attribute) for r in records if r.kind == kind}

    def _is_sound(self, path: str) -> bool:
        return not any(path == bad or path.startswith(f"{bad}.") for bad in self._found)

    def _problem(self, path: str, message: str) -> Problem:
        return Problem(self._places(path), path, message)
