"""Files are written whole, and only where a file can be."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from taskspec.errors import ArtifactError
from taskspec.files import check_apart, check_output


def test_a_new_file_and_one_that_is_there_can_be_written(tmp_path: Path) -> None:
    place = tmp_path / "found.json"
    check_output(place)
    place.write_text("{}", encoding="utf-8")
    check_output(place)
    assert place.read_text(encoding="utf-8") == "{}"


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "results"
    with pytest.raises(ArtifactError, match=f"{missing} is no folder; make it"):
        check_output(missing / "found.json")
    assert not missing.exists()


def test_a_file_is_no_folder_and_a_folder_no_file(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    notes.write_text("mine", encoding="utf-8")
    with pytest.raises(ArtifactError, match=f"{notes} is no folder"):
        check_output(notes / "found.json")
    with pytest.raises(ArtifactError, match="it is no file; name another one"):
        check_output(tmp_path)


def test_a_folder_that_others_own_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Root may write anywhere, so the system's answer is given here.
    monkeypatch.setattr(os, "access", lambda place, mode: not (mode & os.W_OK))
    with pytest.raises(ArtifactError, match=f"{tmp_path} lets you add no files"):
        check_output(tmp_path / "found.json")


@pytest.fixture
def locked(monkeypatch: pytest.MonkeyPatch) -> set[Path]:
    """Places where nothing may be written, as the system would say of them to all but root."""
    places: set[Path] = set()
    monkeypatch.setattr(os, "access", lambda place, mode: not (mode & os.W_OK and place in places))
    return places


def test_what_is_added_to_needs_no_room_beside_it(tmp_path: Path, locked: set[Path]) -> None:
    place = tmp_path / "log.jsonl"
    place.touch()
    locked.add(tmp_path)
    check_output(place, appended=True)
    with pytest.raises(ArtifactError, match="lets you add no files"):
        check_output(place)
    place.unlink()
    with pytest.raises(ArtifactError, match="lets you add no files"):
        check_output(place, appended=True)


def test_what_is_added_to_may_be_written_itself(tmp_path: Path, locked: set[Path]) -> None:
    place = tmp_path / "log.jsonl"
    place.touch()
    locked.add(place)
    check_output(place)
    with pytest.raises(ArtifactError, match=f"{place} cannot be written: you may not read it and"):
        check_output(place, appended=True)


def test_one_file_serves_one_purpose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    check_apart({"prompts": Path("a"), "answers": Path("b"), "log": None, "more": None})
    with pytest.raises(ArtifactError, match="b is named for prompts and for the log"):
        check_apart(
            {"prompts": Path("b"), "answers": Path("a"), "the log": tmp_path / "x" / ".." / "b"}
        )
