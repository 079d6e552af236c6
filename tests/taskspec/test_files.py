"""Files are written whole, and only where a file can be."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from taskspec.errors import ArtifactError
from taskspec.files import check_output


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
