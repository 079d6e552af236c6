"""A bundle knows the prompts that trained it again, without keeping what they say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from taskspec.corpus.examples import Example, Message
from taskspec.errors import ArtifactError
from taskspec.serving.seen import SEEN, leave_out_seen, load_seen, prompt_keys, write_seen

FIRST = Example("1", (Message("system", "Be kind."), Message("user", "What is\nthe sum?")))
OTHER = Example("2", (Message("user", "What is the product?"),))


def test_what_was_seen_is_left_out_whatever_its_name_and_spacing(tmp_path: Path) -> None:
    write_seen(tmp_path, prompt_keys([FIRST]))
    again = replace(FIRST, id="7", messages=(Message("user", " What is the  sum?\n"),))
    fresh, notes = leave_out_seen([again, OTHER], load_seen(tmp_path))
    assert fresh == [OTHER]
    assert notes == ["1 prompts took part in training and are left out"]
    assert "sum" not in (tmp_path / SEEN).read_text(encoding="utf-8")


def test_nothing_is_said_where_nothing_was_seen(tmp_path: Path) -> None:
    write_seen(tmp_path, prompt_keys([FIRST]))
    assert leave_out_seen([OTHER], load_seen(tmp_path)) == ([OTHER], [])


def test_an_older_bundle_leaves_nothing_out_and_says_so(tmp_path: Path) -> None:
    fresh, notes = leave_out_seen([FIRST, OTHER], load_seen(tmp_path))
    assert fresh == [FIRST, OTHER]
    assert len(notes) == 1 and "run its recipe again" in notes[0]


@pytest.mark.parametrize("text", ["[", "1", '{"a'])
def test_a_damaged_list_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / SEEN).write_text(text, encoding="utf-8")
    with pytest.raises(ArtifactError, match="is damaged; run the bundle's recipe again"):
        load_seen(tmp_path)
