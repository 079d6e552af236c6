"""The ways to answer a prompt that are timed, ours and other engines', taking turns."""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from taskspec.decoding.correction import Correction
from taskspec.decoding.engine import Engine
from taskspec.decoding.records import DraftChoice, Request, StepRecord
from taskspec.evaluation.bench_engines import EngineEndedError, OtherEngine
from taskspec.evaluation.dealing import deal
from taskspec.serving.bundle import Bundle

_REST = 0.3


@dataclass(frozen=True)
class BenchPrompt:
    """A prompt to answer.

    Attributes:
        id: Its name.
        task: Its task, by which resampling is stratified.
        text: What the router reads.
        ids: What the target reads.
    """

    id: str
    task: str
    text: str
    ids: tuple[int, ...]


@dataclass(frozen=True)
class Answered:
    """One answer's time, and what our engine tells of it."""

    seconds: float
    first: float = 0.0
    steps: tuple[StepRecord, ...] = ()
    tokens: tuple[int, ...] = ()


Answer = Callable[[BenchPrompt], Answered]


def choose_prompts(prompts: Sequence[BenchPrompt], count: int, seed: int) -> list[BenchPrompt]:
    """Draw prompts, as many from each task as the count allows."""
    by_task: dict[str, list[BenchPrompt]] = {}
    for prompt in prompts:
        by_task.setdefault(prompt.task, []).append(prompt)
    for own in by_task.values():
        random.Random(seed).shuffle(own)
    return deal(by_task.values())[:count]


def routed_draft(bundle: Bundle, prompt: BenchPrompt) -> DraftChoice | None:
    """The draft that the bundle's router chooses for a prompt; None for plain decoding."""
    assignment = bundle.router.route(prompt.text).assignment
    return bundle.pool.choice(assignment.draft, assignment.draft_length)


def ours(
    engine: Engine,
    tokens: int,
    choose: Callable[[BenchPrompt], DraftChoice | None],
    correction: Correction | None = None,
) -> Answer:
    """Our engine with the draft that `choose` names for each prompt."""

    def answer(prompt: BenchPrompt) -> Answered:
        times: list[float] = []
        started = time.perf_counter()
        request = Request(prompt.id, prompt.ids, tokens, ignore_eos=True)
        request = replace(request, draft=choose(prompt))
        done = engine.generate(
            [request],
            on_emit=lambda *_: times.append(time.perf_counter()),
            correction=correction,
        )[0]
        ended = time.perf_counter()
        return Answered(ended - started, times[0] - started, done.steps, done.tokens)

    return answer


def always(engine: Engine, tokens: int, choice: DraftChoice | None) -> Answer:
    """Our engine with one draft for all prompts."""
    return ours(engine, tokens, lambda _: choice)


def theirs(engine: OtherEngine, tokens: int) -> Answer:
    """Another engine."""

    def answer(prompt: BenchPrompt) -> Answered:
        seconds = engine.answer(prompt.ids, tokens)
        # Thread pools spin for a while after their work, at the cost of whoever is next.
        time.sleep(_REST)
        return Answered(seconds)

    return answer


def take_turns(
    ways: Mapping[str, Answer],
    prompts: Sequence[BenchPrompt],
    repeats: int,
    on_done: Callable[[], None],
) -> tuple[dict[str, list[list[Answered]]], dict[str, str]]:
    """Every way's answers to every prompt, `repeats` of each; and the engines that ended.

    These are left out with what they had answered, and named with what they said.
    """
    failed: dict[str, str] = {}
    found: dict[str, list[list[Answered]]] = {name: [[] for _ in prompts] for name in ways}
    names = list(ways)
    for repeat in range(repeats):
        for index, prompt in enumerate(prompts):
            turn = (index + repeat) % len(names)
            for name in names[turn:] + names[:turn]:
                if name in failed:
                    continue
                try:
                    found[name][index].append(ways[name](prompt))
                except EngineEndedError as error:
                    failed[name] = str(error)
                    del found[name]
            on_done()
        gc.collect()
    return found, failed
