"""Which drafts take in which answers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from taskspec_drafters.cascade import Cascade, CascadeOptions
from taskspec_drafters.prompt_lookup import PromptLookup
from taskspec_drafters.suffix import Suffix

from taskspec.decoding.records import DraftChoice, Generation, Request
from taskspec.recipe.choice import PluginChoice
from taskspec.serving.bundle import Bundle
from taskspec.serving.pool import DraftEntry, Pool
from taskspec.serving.remembering import answer_memory
from taskspec.serving.routing import Assignment

ALL, CODE, MATH, CASCADE = "suffix", "suffix@task-0", "suffix@task-1", "both@task-1"


def entry(name: str, *members: str) -> DraftEntry:
    return DraftEntry(name, PluginChoice("any"), Path(name), members=members)


def bundle(fallback: str | None, remember: int = 100) -> Bundle:
    """Two tasks with a `suffix` each, one for all, prompt lookup, and a cascade."""
    own = {name: Suffix() for name in (ALL, CODE, MATH)}
    drafters: dict[str, Any] = {**own, "lookup": PromptLookup()}
    drafters[CASCADE] = Cascade(CascadeOptions(drafts=[MATH, "lookup"]))
    entries = {name: entry(name) for name in drafters}
    entries[CASCADE] = entry(CASCADE, MATH, "lookup")
    pool = Pool({entries[name].key: each for name, each in drafters.items()}, entries)
    manifest: Any = SimpleNamespace(
        decode={"remember": remember},
        fallback=Assignment("fallback", fallback, 3),
    )
    anything: Any = None
    return Bundle(manifest, anything, pool, anything, anything)


def learners(
    found: Bundle, asked: str | None, served: Mapping[DraftChoice | None, int] | None = None
) -> set[str]:
    """Names of the drafts that take in the answer to a request for a draft."""
    memory = answer_memory(found)
    assert memory is not None
    choice = None if asked is None else found.pool.choice(asked, 3)
    done = Generation("0", (1, 7, 8), "length", (), served=served or {})
    memory.take_in(Request("0", (1,), 4, draft=choice), done)
    names = {
        name
        for name, each in found.pool.entries.items()
        if isinstance(drafter := found.pool.drafters[each.key], Suffix) and drafter._served._kept
    }
    memory.forget()
    return names


def test_an_answer_goes_to_its_own_draft_and_to_those_for_every_task() -> None:
    assert learners(bundle(ALL), CODE) == {CODE, ALL}
    assert learners(bundle(ALL), ALL) == {ALL}
    assert learners(bundle("lookup"), MATH) == {MATH, ALL}
    assert learners(bundle(CODE), MATH) == {MATH, ALL, CODE}


def test_answers_decoded_plainly_or_by_a_draft_that_remembers_nothing_are_learnt_from() -> None:
    assert learners(bundle(ALL), None) == {ALL}
    assert learners(bundle(ALL), "lookup") == {ALL}


def test_drafts_that_another_one_drafts_with_take_in_its_answers() -> None:
    assert learners(bundle(ALL), CASCADE) == {MATH, ALL}


def test_a_draft_that_took_over_takes_in_the_answer() -> None:
    found = bundle(ALL)
    other = found.pool.choice(MATH, 3)
    assert learners(found, CODE, {found.pool.choice(CODE, 3): 2, other: 5}) == {CODE, MATH, ALL}


def test_an_answer_is_taken_in_once() -> None:
    found = bundle(ALL)
    memory = answer_memory(found)
    assert memory is not None
    choice = found.pool.choice(ALL, 3)
    done = Generation("0", (1, 7), "length", (), served={choice: 4, None: 1})
    memory.take_in(Request("0", (1,), 4, draft=choice), done)
    drafter: Any = found.pool.drafters[found.pool.entries[ALL].key]
    assert len(drafter._served._kept) == 1


def test_nothing_is_kept_unless_asked_for_or_where_nothing_remembers() -> None:
    assert answer_memory(bundle(ALL, remember=0)) is None
    assert answer_memory(bundle(ALL, remember=0), 50) is not None
    found = bundle("lookup")
    only = Pool({"lookup": PromptLookup()}, {"lookup": entry("lookup")})
    without = Bundle(found.manifest, found.target, only, found.router, found.engine)
    assert answer_memory(without) is None
