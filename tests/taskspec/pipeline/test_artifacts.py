"""Stage folders: whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from taskspec.errors import ArtifactError
from taskspec.pipeline import artifacts
from taskspec.pipeline.artifacts import (
    check_files,
    digest,
    finished,
    left_behind,
    read_done,
    read_json,
    take_over,
    take_over_piece,
    working_folder,
    write_atomically,
    write_json,
)


@pytest.fixture
def stage(tmp_path: Path) -> Path:
    """The place of a stage that has not run."""
    return tmp_path / "01-collect"


def finish(stage: Path, fingerprint: str = "one") -> None:
    """Run a stage that writes two files."""
    with working_folder(stage, fingerprint) as work:
        (work / "answers.jsonl").write_text("all\n")
        (work / "inner").mkdir()
        (work / "inner" / "weights").write_bytes(b"\x01\x02")


def interrupt(stage: Path, fingerprint: str = "one") -> None:
    """Run a stage that is interrupted after its first half."""
    with pytest.raises(KeyboardInterrupt), working_folder(stage, fingerprint) as work:
        (work / "part").write_text("first half")
        raise KeyboardInterrupt


def left_beside(stage: Path) -> list[Path]:
    return [path for path in stage.parent.iterdir() if path != stage]


def test_a_finished_stage_is_in_place_with_its_mark(stage: Path) -> None:
    finish(stage)
    done = read_done(stage)
    assert done is not None
    assert done.fingerprint == "one"
    assert done.files.keys() == {"answers.jsonl", "inner/weights"}
    assert (stage / "answers.jsonl").read_text() == "all\n"
    assert left_beside(stage) == []
    check_files(stage, done)


def test_an_unfinished_stage_has_no_mark(stage: Path) -> None:
    interrupt(stage)
    assert read_done(stage) is None


def test_an_interrupted_stage_leaves_its_part_and_nothing_in_place(stage: Path) -> None:
    interrupt(stage)
    assert not stage.exists()
    (partial,) = left_beside(stage)
    assert (partial / "part").read_text() == "first half"


def test_a_failure_before_any_result_leaves_nothing(stage: Path) -> None:
    with pytest.raises(ArtifactError, match="no"), working_folder(stage, "one"):
        raise ArtifactError("no")
    assert list(stage.parent.iterdir()) == []


def test_a_failure_keeps_what_an_earlier_run_finished(stage: Path) -> None:
    finish(stage)
    interrupt(stage, "two")
    done = read_done(stage)
    assert done is not None
    assert done.fingerprint == "one"
    check_files(stage, done)


def test_the_same_stage_goes_on_from_its_part(stage: Path) -> None:
    interrupt(stage)
    with working_folder(stage, "one") as work:
        assert (work / "part").read_text() == "first half"
        (work / "rest").write_text("second half")
    done = read_done(stage)
    assert done is not None
    assert done.files.keys() == {"part", "rest"}
    assert left_beside(stage) == []


def test_another_stages_part_is_discarded(stage: Path) -> None:
    interrupt(stage, "one")
    with working_folder(stage, "two") as work:
        assert not (work / "part").exists()


def test_a_salvaged_attempt_serves_another_and_comes_back_for_its_own(stage: Path) -> None:
    interrupt(stage)
    with pytest.raises(KeyboardInterrupt), working_folder(stage, "two", salvage=True) as work:
        assert (left_behind(stage) / "part").exists() and not (work / "part").exists()
        (work / "other").write_text("of a mistake")
        raise KeyboardInterrupt
    with working_folder(stage, "one", salvage=True) as work:
        assert (work / "part").exists() and (left_behind(stage) / "other").exists()
    assert left_beside(stage) == []


def test_a_stage_done_again_replaces_its_folder(stage: Path) -> None:
    finish(stage)
    with working_folder(stage, "two") as work:
        (work / "other").write_text("")
    assert {path.name for path in stage.iterdir()} == {"other", "done.json"}


def test_a_stage_interrupted_while_its_files_are_hashed_goes_on(
    stage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(path: Path) -> str:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(artifacts, "file_digest", interrupted)
        finish(stage)
    assert finished(stage, "one") is None
    with working_folder(stage, "one") as work:
        assert (work / "answers.jsonl").read_text() == "all\n"
        assert (work / "inner" / "weights").read_bytes() == b"\x01\x02"
    done = read_done(stage)
    assert done is not None and done.files.keys() == {"answers.jsonl", "inner/weights"}
    assert {path.name for path in stage.iterdir()} == {"answers.jsonl", "inner", "done.json"}
    assert left_beside(stage) == []


def finish_and_die(stage: Path, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the stage and be killed at a move or removal, counted from its finished mark on."""
    put_in_place, left = artifacts._put_in_place, [step]

    def dying(do: Callable[..., Any]) -> Callable[..., Any]:
        def instead(*arguments: Any, **options: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                raise KeyboardInterrupt
            return do(*arguments, **options)

        return instead

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):

        def put(work: Path, folder: Path) -> None:
            for place, name in ((os, "replace"), (shutil, "rmtree"), (Path, "unlink")):
                patch.setattr(place, name, dying(getattr(place, name)))
            put_in_place(work, folder)

        patch.setattr(artifacts, "_put_in_place", put)
        finish(stage)


@pytest.mark.parametrize("step", range(8))
def test_a_stage_killed_between_its_end_and_its_place_is_put_there(
    stage: Path, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish(stage, "old")
    finish_and_die(stage, step, monkeypatch)
    old = read_done(stage)
    assert old is None or old.fingerprint == "old"
    assert finished(stage, "two") is None
    done = finished(stage, "one")
    assert done is not None and done == read_done(stage) and done.fingerprint == "one"
    check_files(stage, done)
    assert {path.name for path in stage.iterdir()} == {"answers.jsonl", "inner", "done.json"}
    assert left_beside(stage) == []


def test_nothing_vouches_for_a_folder_that_is_worked_in_again(
    stage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish_and_die(stage, 0, monkeypatch)
    interrupt(stage)
    assert finished(stage, "one") is None


@pytest.mark.parametrize("name", ["answers.jsonl", "inner/weights"])
def test_an_altered_or_removed_file_is_noticed(stage: Path, name: str) -> None:
    finish(stage)
    done = read_done(stage)
    assert done is not None
    (stage / name).write_bytes(b"\x01\x03")
    with pytest.raises(ArtifactError, match=f"{name} was altered.*remove {stage}"):
        check_files(stage, done)
    (stage / name).unlink()
    with pytest.raises(ArtifactError, match=f"{name} was removed.*remove {stage}"):
        check_files(stage, done)


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "tasks.json"
    write_json(path, {"a": [1, None]})
    assert read_json(path) == {"a": [1, None]}
    with pytest.raises(UnicodeEncodeError):
        write_atomically(path, "begun \ud800")
    assert read_json(path) == {"a": [1, None]}
    assert [each.name for each in tmp_path.iterdir()] == ["tasks.json"]


def test_a_missing_or_damaged_file_is_told_with_the_mend(tmp_path: Path) -> None:
    path = tmp_path / "tasks.json"
    with pytest.raises(ArtifactError, match=r"tasks\.json is missing; run the recipe again"):
        read_json(path)
    path.write_text('{"a":')
    with pytest.raises(ArtifactError, match=r"tasks\.json is damaged.*run the recipe again"):
        read_json(path)


def test_a_digest_depends_on_values_not_on_their_order() -> None:
    assert digest({"a": 1, "b": [2]}) == digest({"b": [2], "a": 1})
    assert digest({"a": 1, "b": [2]}) != digest({"a": 1, "b": [3]})


def test_what_another_run_made_alike_is_taken_over(stage: Path, tmp_path: Path) -> None:
    finish(stage)
    other = tmp_path / "other" / "stages" / "01-collect"
    assert not take_over(stage, other, "two") and not other.exists()
    assert not take_over(tmp_path / "nowhere", other, "one")
    assert take_over(stage, other, "one")
    assert read_done(other) == read_done(stage)
    assert left_beside(other) == []

    finish(stage, "two")
    done = read_done(other)
    assert done is not None and done.fingerprint == "one"
    check_files(other, done)


def test_a_stage_half_taken_over_is_not_taken_for_a_finished_one(
    stage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish(stage)
    other = tmp_path / "other" / "01-collect"
    copy = artifacts._link_or_copy

    def killed(source: str, target: str) -> None:
        if source.endswith("weights"):
            raise KeyboardInterrupt
        copy(source, target)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(artifacts, "_link_or_copy", killed)
        take_over(stage, other, "one")
    assert finished(other, "one") is None
    assert take_over(stage, other, "one") and read_done(other) == read_done(stage)


def test_what_another_run_altered_is_not_taken_over(stage: Path, tmp_path: Path) -> None:
    finish(stage)
    (stage / "answers.jsonl").write_text("some\n")
    with pytest.raises(ArtifactError, match=r"answers\.jsonl was altered"):
        take_over(stage, tmp_path / "other", "one")


@pytest.mark.parametrize("ended", [True, False], ids=["finished", "interrupted"])
def test_a_piece_is_taken_over_from_what_another_recipe_made(stage: Path, ended: bool) -> None:
    """Whether that stage was finished, or interrupted after the piece."""
    with contextlib.suppress(KeyboardInterrupt), working_folder(stage, "one", True) as work:
        with working_folder(work / "small", "piece") as piece:
            (piece / "weights").write_text("trained")
        if not ended:
            raise KeyboardInterrupt
    with working_folder(stage, "two", True) as work:
        assert not take_over_piece(work / "small", "another piece")
        assert take_over_piece(work / "small", "piece")
        assert (work / "small" / "weights").read_text() == "trained"
    assert left_beside(stage) == []


def test_a_piece_that_was_altered_is_not_taken_over(stage: Path) -> None:
    with (
        working_folder(stage, "one", True) as work,
        working_folder(work / "small", "piece") as piece,
    ):
        (piece / "weights").write_text("trained")
    (stage / "small" / "weights").write_text("other")
    with working_folder(stage, "two", True) as work:
        assert not take_over_piece(work / "small", "piece")
        (work / "part").touch()
