"""Answers on disk one by one, so that none is lost when the process is killed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from taskspec.corpus.answers import StoredAnswer
from taskspec.errors import ArtifactError


def read_journal(path: Path) -> dict[str, StoredAnswer]:
    """Answers by prompt id; none when there is no journal.

    A last line that was torn when its process was killed is cut off the file.

    Raises:
        ArtifactError: When another line is damaged.
    """
    if not path.exists():
        return {}
    whole, newline, torn = path.read_bytes().rpartition(b"\n")
    if torn:
        os.truncate(path, len(whole + newline))
    try:
        answers = [_answer(line) for line in whole.splitlines()]
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactError(
            f"{path} is damaged ({error}); remove its folder and run the recipe again"
        ) from None
    return {answer.id: answer for answer in answers}


@contextmanager
def appending(path: Path) -> Iterator[Callable[[StoredAnswer], None]]:
    """Yield a function that returns when an answer without teacher signal is on the disk."""
    with path.open("a", encoding="utf-8") as file:

        def add(answer: StoredAnswer) -> None:
            row = {
                "id": answer.id,
                "prompt_ids": answer.prompt_ids,
                "answer_ids": answer.answer_ids,
                "finished": answer.finished,
            }
            file.write(json.dumps(row) + "\n")
            file.flush()
            os.fsync(file.fileno())

        yield add


def _answer(line: bytes) -> StoredAnswer:
    row = json.loads(line)
    prompt, answer = tuple(row["prompt_ids"]), tuple(row["answer_ids"])
    return StoredAnswer(row["id"], prompt, answer, row["finished"])
