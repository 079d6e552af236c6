"""Answers that are on the disk one by one."""

from pathlib import Path

import pytest

from taskspec.corpus.answers import StoredAnswer
from taskspec.corpus.journal import appending, read_journal
from taskspec.errors import ArtifactError

ANSWERS = [StoredAnswer(f"p{n}", (1, n), (n, 3), n == 2) for n in range(3)]


def write(path: Path, answers: list[StoredAnswer]) -> None:
    with appending(path) as add:
        for answer in answers:
            add(answer)


def test_what_was_added_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    assert read_journal(path) == {}
    write(path, ANSWERS[:1])
    write(path, ANSWERS[1:])
    assert list(read_journal(path).values()) == ANSWERS


def test_an_answer_is_on_the_disk_before_the_next_one_comes(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with appending(path) as add:
        for count, answer in enumerate(ANSWERS, start=1):
            add(answer)
            assert len(read_journal(path)) == count


@pytest.mark.parametrize("lost", range(1, 20))
def test_wherever_the_last_line_is_torn_the_others_stand(tmp_path: Path, lost: int) -> None:
    path = tmp_path / "journal.jsonl"
    write(path, ANSWERS)
    path.write_bytes(path.read_bytes()[:-lost])
    assert list(read_journal(path).values()) == ANSWERS[:2]
    write(path, ANSWERS[2:])
    assert list(read_journal(path).values()) == ANSWERS


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    write(path, ANSWERS)
    path.write_bytes(path.read_bytes().replace(b'"id"', b'"is"', 1))
    with pytest.raises(ArtifactError, match=r"journal\.jsonl is damaged"):
        read_journal(path)
