"""A log of answers: how each was routed, and how its draft did."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskspec.corpus.rows import read_row
from taskspec.decoding.records import first_tokens
from taskspec.errors import ArtifactError
from taskspec.files import check_output

if TYPE_CHECKING:
    from taskspec.corpus.examples import Example, Message
    from taskspec.serving.bundle import Answer
    from taskspec.serving.pool import Pool

MESSAGES = "messages"


@dataclass(frozen=True)
class LoggedAnswer:
    """What a line of the log says of an answer.

    Attributes:
        time: When it was done, in seconds since 1970.
        assigned: Name of the task whose assignment decoded it, or `fallback`.
        draft: That assignment's draft; None for plain decoding.
        probability: The router's, for the likeliest task.
        distance: From known prompts, which keep to 1; None where that was not measured, and for a
            text of which the encoder knows nothing.
        unknown: Whether the prompt lies beyond known ones; None where that was not measured.
        temperature: It was sampled with.
        tokens: Of the answer.
        passes: Of the target, the prompt's left out.
        drafted: Tokens drafted.
        accepted: Drafted tokens accepted.
        tries: Passes that verified a draft.
        stood: Those of them that accepted its first token.
        replaced: Passes that the assignment's draft was not to serve, by in-flight correction.
    """

    time: float
    assigned: str
    draft: str | None
    probability: float
    distance: float | None
    unknown: bool | None
    temperature: float
    tokens: int
    passes: int
    drafted: int
    accepted: int
    tries: int
    stood: int
    replaced: int


def describe_answer(answer: Answer, pool: Pool, temperature: float) -> LoggedAnswer:
    """An answer, done now, as the log shows it.

    Args:
        answer: The answer.
        pool: The drafts that it was decoded with.
        temperature: It was sampled with.
    """
    route, steps = answer.route, answer.generation.steps
    tries, stood = first_tokens(steps)
    choice = pool.choice(route.assignment.draft, route.assignment.draft_length)
    own = None if choice is None else (choice.draft, choice.adapter)
    replaced = sum(
        count
        for used, count in answer.generation.served.items()
        if own != (None if used is None else (used.draft, used.adapter))
    )
    distance = route.distance
    return LoggedAnswer(
        time=round(time.time(), 3),
        assigned=route.assignment.task,
        draft=None if choice is None else route.assignment.draft,
        probability=round(route.probability, 6),
        distance=None if distance is None or math.isinf(distance) else round(distance, 6),
        unknown=None if distance is None else route.unknown,
        temperature=temperature,
        tokens=len(answer.generation.tokens),
        passes=len(steps),
        drafted=sum(step.drafted for step in steps),
        accepted=sum(step.accepted for step in steps),
        tries=tries,
        stood=stood,
        replaced=replaced,
    )


class AnswerLog:
    """A JSONL file to which every answer adds a line.

    Args:
        path: The file; what it holds already stays.
        prompts: Whether lines hold the prompts, too. Such a file is a corpus as well.
    """

    def __init__(self, path: Path, prompts: bool = False) -> None:
        self.path, self.prompts = path, prompts

    def add(self, answered: LoggedAnswer, messages: Sequence[Message]) -> None:
        """Write an answer's line at once, so that processes may share the file."""
        value: dict[str, Any] = asdict(answered)
        if self.prompts:
            value[MESSAGES] = [{"role": m.role, "content": m.content} for m in messages]
        text = json.dumps(value) + "\n"
        data = ("\n" + text if self._cut_off() else text).encode()
        # Opened anew each time, so that the file may be moved away while it is written.
        with self.path.open("ab", buffering=len(data) + 1) as file:
            file.write(data)

    def _cut_off(self) -> bool:
        """Whether the last line has no end, as when a process was killed while it wrote."""
        if not self.path.exists():
            return False
        with self.path.open("rb") as file:
            if not file.seek(0, os.SEEK_END):
                return False
            file.seek(-1, os.SEEK_END)
            return file.read(1) != b"\n"


@dataclass(frozen=True)
class KeptLog:
    """What a log holds.

    Attributes:
        answers: In its order.
        torn: Lines left out because they were cut off while they were written.
    """

    answers: tuple[LoggedAnswer, ...]
    torn: int


def read_log(path: Path) -> KeptLog:
    """Read a log; a last line that is still being written is left out and does not count as torn.

    Raises:
        ArtifactError: When the file is missing, or something else than a log.
    """
    try:
        *lines, _ = path.read_text(encoding="utf-8", errors="replace").split("\n")
    except FileNotFoundError:
        raise ArtifactError(
            f"{path} does not exist; answer with --watch {path} to have one"
        ) from None
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read: {error}") from None
    numbered = {number: line for number, line in enumerate(lines, start=1) if line}
    found = [_read(path, number, line) for number, line in numbered.items()]
    answers = tuple(each for each in found if each is not None)
    strange = [number for number, line in numbered.items() if not _begins(line)]
    if strange and not answers:
        raise _no_line(path, strange[0])
    return KeptLog(answers, len(found) - len(answers))


def check_watching(path: Path | None, prompts: bool) -> None:
    """Refuse to add answers to a file that cannot be written, or that is something else than a log.

    Args:
        path: The log; None for none.
        prompts: Whether it is to hold prompts.

    Raises:
        ArtifactError: Saying what to do.
    """
    if path is None:
        if prompts:
            raise ArtifactError("--watch-prompts needs a log to keep them in; add --watch FILE")
        return
    check_output(path, appended=True)
    if not path.exists():
        return
    with path.open(encoding="utf-8", errors="replace") as file:
        first = next((line.rstrip("\n") for line in file if line.strip()), None)
    try:
        if first is None or _read(path, 1, first) is not None or _begins(first):
            return
    except ArtifactError:
        pass
    raise ArtifactError(f"{path} holds something else than a log of answers; name another file")


def logged_prompts(path: Path) -> tuple[list[Example], int] | None:
    """The prompts that a log keeps, and how many of its lines have none; None if it is no log.

    Lines have none that were cut off, are still being written, or were written without prompts.

    Raises:
        ArtifactError: When the file cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read: {error.strerror}") from None
    lines = [line for line in lines if line]
    if not lines or not all(map(_begins, lines)):
        return None
    found = []
    for line in lines:
        try:
            found.append(read_row(json.loads(line)))
        except ValueError:
            continue
    return found, len(lines) - len(found)


_NAMES = tuple(field.name for field in fields(LoggedAnswer))
_START = f'{{"{_NAMES[0]}": '


def _begins(line: str) -> bool:
    """Whether a line begins as those of a log do, wherever it is cut off."""
    return line.startswith(_START[: len(line)])


def _read(path: Path, number: int, line: str) -> LoggedAnswer | None:
    """A line's answer; None for one that is not whole.

    Raises:
        ArtifactError: When it is something else.
    """
    try:
        value = json.loads(line)
    except ValueError:
        return None
    try:
        return LoggedAnswer(**{name: value[name] for name in _NAMES})
    except (KeyError, TypeError):
        raise _no_line(path, number) from None


def _no_line(path: Path, number: int) -> ArtifactError:
    return ArtifactError(f"{path}:{number}: no line of a log; give a file that --watch has written")
