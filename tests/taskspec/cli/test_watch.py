"""`taskspec watch` reads a log beside a bundle, and follows it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from taskspec.cli.main import app
from taskspec.serving.answer_log import AnswerLog, LoggedAnswer, read_log
from taskspec.serving.bundle import BundleManifest, write_manifest
from taskspec.serving.known import KnownPrompts, save_known
from taskspec.serving.routing import Assignment

CODE = Assignment("code", "small@task-0", 4, None, ((40, 38), (40, 39), (40, 39)))
GOOD = LoggedAnswer(
    *(0.0, "code", "small@task-0", 0.9, 0.5, False, 0.0, 40, 20, 80, 19),
    tries=20,
    stood=19,
    replaced=0,
)
BAD = replace(GOOD, unknown=True, stood=0, accepted=0)


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the command reads of a bundle."""
    monkeypatch.chdir(tmp_path)
    plain = Assignment("fallback", None, 0)
    common = ("model", "weights", "float32", "cpu", None, {"temperature": 0.0}, {})
    write_manifest(tmp_path, BundleManifest(*common, (), (CODE,), plain))
    save_known(KnownPrompts(np.eye(2), np.zeros((1, 2)), np.zeros(1, int), 1.0, 199, 1), tmp_path)
    return tmp_path


def watch(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, ["watch", ".", "log.jsonl", *arguments])
    assert result.exit_code == code, result.output
    return result.output


def test_it_says_what_drifted_and_whether_a_task_is_new(bundle: Path) -> None:
    assert "answer with --watch log.jsonl" in watch(code=2)
    log = AnswerLog(Path("log.jsonl"))
    for _ in range(30):
        log.add(GOOD, [])
    assert "no task drifted; no new task (30 answers)" in watch()
    for _ in range(60):
        log.add(BAD, [])
    said = watch("--last", "60")
    assert "drifted: code; a new task has appeared" in said
    assert "60 of 60 prompts; 1.0% expected" in said


def test_a_log_is_followed_as_it_grows(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = AnswerLog(Path("log.jsonl"))
    log.add(GOOD, [])
    pauses = []

    def grow(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) > 2:
            raise KeyboardInterrupt
        for _ in range(60 * (len(pauses) - 1)):
            log.add(BAD, [])

    monkeypatch.setattr("time.sleep", grow)
    looks = watch("--follow", "--every", "3", "--json", code=130).splitlines()
    found = [json.loads(each) for each in looks if each.startswith("{")]
    assert [each["answers"] for each in found] == [1, len(read_log(log.path).answers)] == [1, 61]
    assert [each["drifted"] for each in found] == [[], ["code"]]
    assert pauses == [3.0, 3.0, 3.0]


def test_a_log_that_is_moved_away_is_waited_for(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, pauses = AnswerLog(Path("log.jsonl")), []

    def pass_time(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) in (2, 6):
            log.add(GOOD, [])
        if len(pauses) == 4:
            log.path.rename("log-1.jsonl")
        if len(pauses) > 7:
            raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", pass_time)
    looks = watch("--follow", "--json", code=130).splitlines()
    found = [json.loads(each)["answers"] for each in looks if each.startswith("{")]
    assert found == [1, 1] and sum("waiting for it" in each for each in looks) == 2


def test_torn_lines_are_told(bundle: Path) -> None:
    log = AnswerLog(Path("log.jsonl"))
    log.add(GOOD, [])
    assert "torn" not in watch() and json.loads(watch("--json"))["torn"] == 0
    with log.path.open("a", encoding="utf-8") as file:
        file.write('{"time": 1')
    log.add(GOOD, [])
    said = watch()
    assert "cut off, and are left out: 1" in said and "(2 answers)" in said
    assert json.loads(watch("--json"))["torn"] == 1


def test_a_bundle_that_measures_no_distances_says_so(bundle: Path) -> None:
    (bundle / "known.safetensors").unlink()
    AnswerLog(Path("log.jsonl")).add(replace(GOOD, distance=None, unknown=None), [])
    assert "not measured by this bundle" in watch()


def test_a_bundle_that_was_copied_in_part_is_told(bundle: Path) -> None:
    known = bundle / "known.safetensors"
    known.write_bytes(known.read_bytes()[:40])
    assert "is not whole" in watch(code=2) and "copy it again" in watch(code=2)
