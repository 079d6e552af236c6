"""Answers from a server in the target's place: every prompt is accounted for, none asked twice."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taskspec.corpus.answers import StoredAnswer
from taskspec.corpus.journal import appending, read_journal
from taskspec.decoding.records import Request
from taskspec.errors import ModelError
from taskspec.interfaces import Target
from taskspec.models.endpoint import first_line
from taskspec.pipeline.completions import Completions
from taskspec.pipeline.progress import Advance
from taskspec.recipe.schema import EndpointConfig

_IN_A_ROW = 8
"""Failures one after the other, besides those under way, after which nothing more is asked."""

Found = StoredAnswer | Exception


@dataclass(frozen=True)
class Accounting:
    """What became of every prompt: `input` is the sum of the next three.

    Attributes:
        input: Prompts to answer.
        success: Answered.
        error: Asked in vain, retries included.
        skipped: Not asked, because too many before failed.
        reason: What the server said last; empty without errors.
        without_answer: Ids of the prompts that failed, then of those not asked.
    """

    input: int
    success: int
    error: int
    skipped: int
    reason: str
    without_answer: tuple[str, ...]

    def __post_init__(self) -> None:
        assert self.input == self.success + self.error + self.skipped
        assert len(self.without_answer) == self.error + self.skipped


def ask_all(
    target: Target,
    name: str,
    config: EndpointConfig,
    requests: Sequence[Request],
    journal: Path,
    advance: Advance,
    may_fail: float,
) -> tuple[list[StoredAnswer], Accounting]:
    """Have a server answer requests; what it has answered is kept on disk, one by one.

    Args:
        target: Its tokenizer reads answers of servers that do not give token ids.
        name: The model's name on the server.
        config: The server, and how hard to ask.
        requests: What to ask.
        journal: File of the answers so far; asked again are only those that are not in it.
        advance: Told of every answer.
        may_fail: How many may stay without an answer.

    Raises:
        PluginError: When the key is not set or `openai` is missing.
        ModelError: When more prompts than allowed stay without an answer; the journal stays.
    """
    known = read_journal(journal)
    advance(len(known))
    waiting = deque(request for request in requests if request.id not in known)
    completions = Completions(target, name, config)
    failed: dict[str, str] = {}
    with appending(journal) as add:
        for request, found in _ask(completions, waiting, config.concurrency, may_fail):
            if isinstance(found, Exception):
                failed[request.id] = first_line(found)
                continue
            add(found)
            known[found.id] = found
            advance(1)
    answers = [known[request.id] for request in requests if request.id in known]
    reason = next(reversed(failed.values()), "")
    lost = (*failed, *(request.id for request in waiting))
    counts = len(requests), len(answers), len(failed), len(waiting)
    accounting = Accounting(*counts, reason, lost)
    if len(lost) > may_fail:
        raise ModelError(
            f"{config.url} left {len(lost)} of {len(requests)} prompts without an answer "
            f"({len(failed)} failed, {len(waiting)} not asked): {reason}; the others are kept: "
            "mend the server or collect.endpoint and run the same command again"
        )
    return answers, accounting


def _ask(
    completions: Completions, waiting: deque[Request], concurrency: int, allowed: float
) -> Iterator[tuple[Request, Found]]:
    """Answers and errors in the order in which they come.

    Takes requests out of `waiting`. After more errors than allowed, or many in a row, it takes
    no more.
    """
    under_way: dict[Future[Any], Request] = {}
    failed = in_a_row = 0
    with ThreadPoolExecutor(concurrency) as pool:
        while True:
            goes_on = failed <= allowed and in_a_row < _IN_A_ROW + concurrency
            while goes_on and waiting and len(under_way) < concurrency:
                request = waiting.popleft()
                under_way[pool.submit(completions.ask, request)] = request
            if not under_way:
                return
            for future in wait(under_way, return_when=FIRST_COMPLETED).done:
                request = under_way.pop(future)
                found = _found(completions, request, future)
                failed, in_a_row = (
                    (failed + 1, in_a_row + 1) if isinstance(found, Exception) else (failed, 0)
                )
                yield request, found


def _found(completions: Completions, request: Request, future: Future[Any]) -> Found:
    from openai import OpenAIError

    try:
        return completions.read(request, future.result())
    except (OpenAIError, ModelError, ValueError) as error:  # ValueError: a reply that is no JSON
        return error
