"""Timing ways of answering in turn: what is learnt is the same however often one looks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from corrections import GOOD, correction
from rich.console import Console
from taskspec_drafters.suffix import Suffix
from taskspec_verifiers.greedy import Greedy

from taskspec.decoding.answer_memory import AnswerMemory
from taskspec.decoding.engine import Engine
from taskspec.decoding.experience import Experience
from taskspec.decoding.prices import Way
from taskspec.decoding.records import DraftChoice, Request
from taskspec.evaluation.matrix import Timing
from taskspec.pipeline.timing import PLAIN, Remembering, always, time_ways
from taskspec.testing.toy_target import toy_prompts, toy_target

CHOICE = DraftChoice("suffix", 4)


@dataclass(frozen=True)
class Prompt:
    request: Request
    text: str = ""
    row: str = "all"


PROMPTS = [
    Prompt(Request(str(n), tuple(ids), 16, ignore_eos=True))
    for n, ids in enumerate([*toy_prompts(2, seed=4), *toy_prompts(2, seed=4)])
]
"""Two prompts, and the same two again."""


def measured(journal: Path | None, prompts: list[Prompt] = PROMPTS) -> list[Timing]:
    engine = Engine(toy_target(), Greedy(), {"suffix": Suffix()})
    own = Suffix()
    learning = Remembering(engine.beside({"suffix": own}), AnswerMemory({"suffix": [own]}, 1000))
    drafted = always(CHOICE)
    learners = ("remembered", "experienced")
    ways = {PLAIN: always(None), "drafted": drafted, **dict.fromkeys(learners, drafted)}
    # Dear where it is not sure: what it shows decides how far it goes in the next answers.
    way = Way(CHOICE, GOOD, 0.3)
    steering = replace(correction(way, grace=20), experience=Experience())
    return time_ways(
        Console(quiet=True),
        journal,
        engine,
        ways,
        prompts,
        2,
        corrections={"experienced": steering},
        remembering={"remembered": learning},
    )


def passes(timings: list[Timing], method: str) -> Mapping[tuple[str, int], int]:
    return {(t.prompt, t.repeat): len(t.steps) for t in timings if t.method == method}


def test_earlier_answers_of_a_repeat_help_and_those_of_other_repeats_and_ways_do_not() -> None:
    found = measured(None)
    learnt, drafted = passes(found, "remembered"), passes(found, "drafted")
    for repeat in (0, 1):
        assert learnt["0", repeat] == drafted["0", repeat]
        for first, again in (("0", "2"), ("1", "3")):
            assert drafted[first, repeat] == drafted[again, repeat]
            assert learnt[again, repeat] < drafted[again, repeat]
    assert all(learnt[name, 0] == learnt[name, 1] for name in "0123")


def test_what_drafts_showed_in_a_repeat_counts_in_it_and_not_in_the_next() -> None:
    drafted = {
        (t.prompt, t.repeat): sum(step.drafted for step in t.steps)
        for t in measured(None)
        if t.method == "experienced"
    }
    assert drafted["2", 0] < drafted["0", 0]
    assert all(drafted[name, 0] == drafted[name, 1] for name in "0123")


@pytest.mark.parametrize("lines", [1, 3, 5])
def test_what_an_interrupted_attempt_had_answered_is_learnt_again(
    tmp_path: Path, lines: int
) -> None:
    journal = tmp_path / "timings.jsonl"
    whole = measured(journal)
    kept = journal.read_text().splitlines(keepends=True)[:lines]
    journal.write_text("".join(kept))
    again = measured(journal)
    assert [(t.method, t.steps) for t in again] == [(t.method, t.steps) for t in whole]
