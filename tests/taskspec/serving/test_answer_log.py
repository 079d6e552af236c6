"""The log of answers: what a line says, and that it survives being written while read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from taskspec.corpus.examples import Message
from taskspec.corpus.readers import read_examples
from taskspec.decoding.records import DraftChoice, Generation, StepRecord
from taskspec.errors import ArtifactError
from taskspec.recipe.choice import PluginChoice
from taskspec.serving.answer_log import (
    AnswerLog,
    LoggedAnswer,
    check_watching,
    describe_answer,
    logged_prompts,
    read_log,
)
from taskspec.serving.bundle import Answer
from taskspec.serving.pool import DraftEntry, Pool
from taskspec.serving.routing import Assignment, Route

ENTRY = DraftEntry("small@task-0", PluginChoice("causal-lm"), Path("base"), Path("adapter"))
POOL = Pool({}, {ENTRY.name: ENTRY})
OWN, OTHER = DraftChoice("base", 4, "small@task-0"), DraftChoice("lookup", 4)
STEPS = (StepRecord(4, 4, 5), StepRecord(4, 0, 1), StepRecord(0, 0, 1), StepRecord(4, 2, 2))
ROUTE = Route(Assignment("code", "small@task-0", 4), 0, 0.9, 0.001, 0.4)


def answer(route: Route = ROUTE, served: dict[DraftChoice | None, int] | None = None) -> Answer:
    made = Generation("0", tuple(range(10)), "eos", STEPS, served=served or {OWN: 4})
    return Answer("text", route, made, 0.5)


def describe(answered: Answer) -> LoggedAnswer:
    return replace(describe_answer(answered, POOL, 0.0), time=0.0)


def test_a_line_says_how_the_draft_did() -> None:
    found = describe(answer())
    assert (found.assigned, found.draft, found.probability) == ("code", "small@task-0", 0.9)
    assert (found.distance, found.unknown) == (0.4, False)
    assert (found.tokens, found.passes, found.drafted, found.accepted) == (10, 4, 12, 6)
    assert (found.tries, found.stood, found.replaced) == (3, 2, 0)


def test_steps_at_another_length_are_still_the_drafts_own() -> None:
    served = {replace(OWN, draft_length=2): 2, OTHER: 1, None: 1}
    assert describe(answer(served=served)).replaced == 2


def test_plain_decoding_has_no_draft() -> None:
    route = replace(ROUTE, assignment=Assignment("chat", "small@task-0", 0))
    found = describe(answer(route, {None: 4}))
    assert (found.draft, found.replaced) == (None, 0)


def test_a_text_unknown_to_the_encoder_and_one_not_measured() -> None:
    unknown = describe(answer(replace(ROUTE, distance=float("inf"))))
    assert (unknown.distance, unknown.unknown) == (None, True)
    missing = describe(answer(replace(ROUTE, distance=None)))
    assert (missing.distance, missing.unknown) == (None, None)


def test_a_log_holds_prompts_only_on_demand_and_is_then_a_corpus(tmp_path: Path) -> None:
    line, asked = describe(answer()), [Message("user", "Reverse a list in Python.")]
    silent, full = AnswerLog(tmp_path / "silent"), AnswerLog(tmp_path / "full", prompts=True)
    for log in (silent, full):
        for _ in range(2):
            log.add(line, asked)
        assert read_log(log.path).answers == (line, line)
    assert "Reverse" not in silent.path.read_text(encoding="utf-8")
    corpus = read_examples(full.path)
    assert [each.prompt_text for each in corpus] == ["Reverse a list in Python."] * 2
    assert {each.task for each in corpus} == {None}


def test_a_line_that_is_being_written_is_left_for_later(tmp_path: Path) -> None:
    log = AnswerLog(tmp_path / "log")
    log.add(describe(answer()), [])
    with log.path.open("a", encoding="utf-8") as file:
        file.write('{"time": 1')
    found = read_log(log.path)
    assert (len(found.answers), found.torn) == (1, 0)


def test_a_line_that_was_cut_off_takes_no_other_with_it(tmp_path: Path) -> None:
    log, line = AnswerLog(tmp_path / "log"), describe(answer())
    log.add(line, [])
    whole = log.path.read_text(encoding="utf-8")
    log.path.write_text(whole + whole[:30], encoding="utf-8")
    for count in (2, 3):
        log.add(line, [])
        found = read_log(log.path)
        assert (len(found.answers), found.torn) == (count, 1)


@pytest.mark.parametrize("damage", ['{"time": 1{whole}', "{", "\0\0\0", 'ed": 0}', "caf\xe9"])
def test_lines_that_are_not_whole_are_left_out_and_counted(damage: str, tmp_path: Path) -> None:
    log = AnswerLog(tmp_path / "log")
    log.add(describe(answer()), [])
    whole = log.path.read_text(encoding="utf-8")
    torn = damage.replace("{whole}", whole.strip())
    log.path.write_text(f"{whole}{torn}\n\n{whole}{torn}\n", encoding="latin-1")
    found = read_log(log.path)
    assert (len(found.answers), found.torn) == (2, 2)
    log.path.write_text(f"{whole}[1]\n", encoding="utf-8")
    with pytest.raises(ArtifactError, match="log:2: no line of a log"):
        read_log(log.path)


def test_answers_are_added_to_logs_only(tmp_path: Path) -> None:
    log = AnswerLog(tmp_path / "log")
    check_watching(log.path, False)
    for begun in ("", "\n", '{"time": 1', '{"ti'):
        log.path.write_text(begun, encoding="utf-8")
        check_watching(log.path, False)
        log.add(describe(answer()), [])
        check_watching(log.path, False)
    for other in ("notes of mine", '{"prompt": "Hello"}\n', "[1]\n", "1", "caf\xe9\n"):
        log.path.write_text(other, encoding="latin-1")
        with pytest.raises(ArtifactError, match="something else than a log.*name another file"):
            check_watching(log.path, False)
        assert log.path.read_text(encoding="latin-1") == other
    with pytest.raises(ArtifactError, match="is no folder"):
        check_watching(tmp_path / "nowhere" / "log", False)


@pytest.mark.parametrize("text", ["notes\n", '{"time": 1}\n', "[1]\n"])
def test_something_else_is_refused_by_line(text: str, tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ArtifactError, match="log:1: no line of a log"):
        read_log(path)
    with pytest.raises(ArtifactError, match="does not exist"):
        read_log(tmp_path / "nothing")


def test_prompts_without_a_log_are_refused() -> None:
    check_watching(None, False)
    with pytest.raises(ArtifactError, match="add --watch FILE"):
        check_watching(None, True)


def test_a_log_gives_the_prompts_of_its_whole_lines(tmp_path: Path) -> None:
    full, silent = (AnswerLog(tmp_path / "log", prompts) for prompts in (True, False))
    full.add(describe(answer()), [Message("user", "Reverse a list.")])
    whole = full.path.read_text(encoding="utf-8")
    full.path.write_text(whole + whole[:40], encoding="utf-8")
    full.add(describe(answer()), [Message("user", "Add two numbers.")])
    silent.add(describe(answer()), [Message("user", "Not kept.")])
    with full.path.open("a", encoding="utf-8") as file:
        file.write(whole[:60])
    found = logged_prompts(full.path)
    assert found is not None
    examples, others = found
    assert [each.prompt_text for each in examples] == ["Reverse a list.", "Add two numbers."]
    assert others == 3


@pytest.mark.parametrize("text", ["", '{"prompt": "Hello"}\n', "[]", "notes"])
def test_another_file_is_no_log(text: str, tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text(text, encoding="utf-8")
    assert logged_prompts(path) is None
