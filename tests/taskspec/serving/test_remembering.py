"""Which drafts take in which answers."""

from __future__ import annotations

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


def entry(name: str, *members: str) -> DraftEntry:
    return DraftEntry(name, PluginChoice("any"), Path(name), members=members)


def bundle(fallback: str | None, spares: tuple[str, ...] = (), remember: int = 100) -> Bundle:
    """Two tasks with a `suffix` each, one for all, prompt lookup, and a cascade."""
    own = {name: Suffix() for name in ("all", "code", "math")}
    drafters: dict[str, Any] = {**own, "lookup": PromptLookup()}
    drafters["cascade"] = Cascade(CascadeOptions(drafts=["math", "lookup"]))
    entries = {name: entry(name) for name in drafters}
    entries["cascade"] = entry("cascade", "math", "lookup")
    pool = Pool({entries[name].key: each for name, each in drafters.items()}, entries)
    manifest: Any = SimpleNamespace(
        decode={"remember": remember},
        fallback=Assignment("fallback", fallback, 3),
        spares=tuple(Assignment("spare", name, 3) for name in spares),
    )
    anything: Any = None
    return Bundle(manifest, anything, pool, anything, anything)


def learners(found: Bundle, asked: str | None) -> set[str]:
    """Names of the drafts that take in the answer to a request for a draft."""
    memory = answer_memory(found)
    assert memory is not None
    choice = None if asked is None else found.pool.choice(asked, 3)
    memory.take_in(Request("0", (1,), 4, draft=choice), Generation("0", (1, 7, 8), "length", ()))
    names = {
        name
        for name, each in found.pool.entries.items()
        if isinstance(drafter := found.pool.drafters[each.key], Suffix) and drafter._answers._served
    }
    memory.forget()
    return names


def test_an_answer_goes_to_its_own_draft_and_to_those_for_every_task() -> None:
    assert learners(bundle("all"), "code") == {"code", "all"}
    assert learners(bundle("all"), "all") == {"all"}
    assert learners(bundle("lookup", ("all",)), "math") == {"math", "all"}
    assert learners(bundle("lookup"), "code") == {"code"}


def test_answers_decoded_plainly_or_by_a_draft_that_remembers_nothing_are_learnt_from() -> None:
    assert learners(bundle("all"), None) == {"all"}
    assert learners(bundle("all"), "lookup") == {"all"}


def test_drafts_that_another_one_drafts_with_take_in_its_answers() -> None:
    assert learners(bundle("all"), "cascade") == {"math", "all"}


def test_an_answer_is_taken_in_once() -> None:
    found = bundle("all", ("all",))
    memory = answer_memory(found)
    assert memory is not None
    request = Request("0", (1,), 4, draft=DraftChoice(found.pool.entries["all"].key, 3))
    memory.take_in(request, Generation("0", (1, 7), "length", ()))
    drafter: Any = found.pool.drafters[found.pool.entries["all"].key]
    assert len(drafter._answers._served) == 1


def test_nothing_is_kept_unless_asked_for_or_where_nothing_remembers() -> None:
    assert answer_memory(bundle("all", remember=0)) is None
    assert answer_memory(bundle("all", remember=0), 50) is not None
    found = bundle("lookup")
    only = Pool({"lookup": PromptLookup()}, {"lookup": entry("lookup")})
    without = Bundle(found.manifest, found.target, only, found.router, found.engine)
    assert answer_memory(without) is None
