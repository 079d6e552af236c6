"""Timing every method on the same prompts, one prompt at a time, interleaved."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Protocol

from rich.console import Console

from taskspec.corpus.answers import is_looping
from taskspec.decoding.answer_memory import AnswerMemory
from taskspec.decoding.correction import Correction
from taskspec.decoding.engine import Engine
from taskspec.decoding.records import DraftChoice, Request, StepRecord
from taskspec.evaluation.matrix import Matrix, Timing
from taskspec.pipeline.artifacts import write_atomically
from taskspec.pipeline.assign import Assigned
from taskspec.pipeline.context import RunContext
from taskspec.pipeline.held_out import HeldOut
from taskspec.pipeline.progress import progress
from taskspec.pipeline.speed import decode_timed
from taskspec.serving.pool import Pool
from taskspec.serving.routing import PromptRouter

PLAIN, ROUTED = "plain", "routed"


Way = Callable[[str], DraftChoice | None]
"""From a prompt's text to its draft; None decodes plainly. What it costs is timed, too."""


@dataclass(frozen=True)
class Remembering:
    """What a way whose drafts learn from the answers that it gave needs for itself.

    Attributes:
        engine: With drafters that no other way uses.
        memory: What they keep.
    """

    engine: Engine
    memory: AnswerMemory


class TimedPrompt(Protocol):
    """What is timed: a request without a draft, its text for routers, its row in tables."""

    @property
    def request(self) -> Request:
        """Without a draft."""
        ...

    @property
    def text(self) -> str:
        """What routers read."""
        ...

    @property
    def row(self) -> str:
        """Its task in tables."""
        ...


def always(choice: DraftChoice | None) -> Way:
    """One draft for every prompt."""
    return lambda text: choice


def routed(router: PromptRouter, pool: Pool) -> Way:
    """The draft that a router finds for the prompt."""

    def choose(text: str) -> DraftChoice | None:
        assignment = router.route(text).assignment
        return pool.choice(assignment.draft, assignment.draft_length)

    return choose


class Methods:
    """The methods to time: each a draft for all prompts, but the routed one.

    Methods that mean the same draft at the same length are timed once.
    """

    def __init__(self, assigned: Assigned, pool: Pool, prompts: Sequence[HeldOut]) -> None:
        self.pool_methods: list[str] = []
        self.choices: dict[str, DraftChoice | None] = {PLAIN: None}
        self.alias: dict[str, str] = {}
        for method, baseline in assigned.baselines.items():
            self._add(method, pool.choice(baseline.draft, baseline.draft_length))
        # One draft for everything takes the length that suits everything, where it is known.
        lengths = {each.draft: each.draft_length for each in assigned.baselines.values()}
        # The fallback's draft is for everything, too; that of no draft is there as `plain`.
        fallback = [assigned.fallback] if assigned.fallback.draft is not None else []
        for assignment in (*fallback, *assigned.tasks):
            lengths.setdefault(assignment.draft, assignment.draft_length)
        used = dict.fromkeys(each.draft for each in (*assigned.tasks, *fallback))
        for draft in used:
            name = PLAIN if draft is None else f"pool {draft}"
            if draft is not None:
                self._add(name, pool.choice(draft, lengths[draft]))
            self.pool_methods.append(self.alias.get(name, name))
        self.routed = {
            p.request.id: pool.choice(p.route.assignment.draft, p.route.assignment.draft_length)
            for p in prompts
        }

    def _add(self, name: str, choice: DraftChoice | None) -> None:
        same = next((n for n, c in self.choices.items() if c == choice), None)
        if same is not None:
            self.alias[name] = same
        else:
            self.choices[name] = choice

    def timed(self) -> list[str]:
        """Names of what is timed."""
        return [*self.choices, ROUTED]

    def ways(self, router: PromptRouter, pool: Pool) -> dict[str, Way]:
        """How each of what is timed chooses its draft."""
        ways: dict[str, Way] = {name: always(choice) for name, choice in self.choices.items()}
        return {**ways, ROUTED: routed(router, pool)}

    def candidates(self, prompt: str) -> list[str]:
        """What the oracle chooses from: the routed choice, and the pool's other members."""
        routed = self.routed[prompt]
        return [ROUTED, *(m for m in self.pool_methods if self.choices[m] != routed)]

    def source(self, method: str) -> str:
        """Under which name a method was timed."""
        return self.alias.get(method, method)


def time_all(
    context: RunContext,
    path: Path,
    engine: Engine,
    router: PromptRouter,
    pool: Pool,
    methods: Methods,
    prompts: Sequence[HeldOut],
) -> list[Timing]:
    """Every prompt by every method, methods in rotated order; goes on where it was stopped.

    Later repeats time plain decoding, the routed method and, to score the oracle, the one of its
    candidates that was fastest for the prompt in the first.
    """

    def wanted(prompt: str, repeat: int, own: Sequence[Timing]) -> Sequence[str]:
        if repeat == 0:
            return methods.timed()
        pick = Matrix(own, {}, 0).fastest(methods.candidates(prompt), prompt)
        return list(dict.fromkeys((PLAIN, ROUTED, pick)))

    ways = methods.ways(router, pool)
    repeats = context.recipe.evaluate.repeats
    return time_ways(context.console, path, engine, ways, prompts, repeats, wanted)


def time_ways(
    console: Console,
    path: Path | None,
    engine: Engine,
    ways: Mapping[str, Way],
    prompts: Sequence[TimedPrompt],
    repeats: int,
    wanted: Callable[[str, int, Sequence[Timing]], Sequence[str]] | None = None,
    corrections: Mapping[str, Correction] | None = None,
    remembering: Mapping[str, Remembering] | None = None,
) -> list[Timing]:
    """Time ways of answering on the same prompts, at batch 1, in rotated order.

    Args:
        console: Where progress is shown.
        path: Journal of finished prompts, from which an interrupted attempt goes on; None keeps
            none.
        engine: Holds the drafts of all ways.
        ways: By name.
        prompts: What to answer.
        repeats: Rounds over all prompts.
        wanted: Names to time, given a prompt's id, the repeat and the prompt's timings so far;
            None times all ways in every repeat.
        corrections: What replaces drafts that fall short, for ways that have that. Experience knows
            the prompts before this one in its repeat, nothing of earlier repeats.
        remembering: For ways whose drafts learn from answers, of the same prompts.
    """
    corrections, remembering = corrections or {}, remembering or {}
    experiences = {m: c.experience for m, c in corrections.items() if c.experience is not None}
    learning = [method for method in ways if method in remembering or method in experiences]
    timings = [] if path is None else _go_on_from(path)
    done = {(timing.prompt, timing.repeat) for timing in timings}

    def decode(prompt: TimedPrompt, method: str, repeat: int) -> Timing:
        choices: list[DraftChoice | None] = []

        def prepare() -> Request:
            choices.append(ways[method](prompt.text))
            return replace(prompt.request, draft=choices[0])

        correction, own = corrections.get(method), remembering.get(method)
        if own is None:
            timed = decode_timed(engine, prepare, correction)
        else:
            timed = decode_timed(own.engine, prepare, correction, own.memory)
        length = 0 if choices[0] is None else choices[0].draft_length
        return Timing(
            prompt.request.id,
            method,
            repeat,
            timed.seconds,
            len(timed.generation.tokens),
            timed.generation.steps,
            length if correction is None else None,
            is_looping(timed.generation.tokens),
            timed.first,
        )

    with progress(console, "timing methods", repeats * len(prompts), len(done)) as advance:
        if len(done) < repeats * len(prompts):
            _read_each_once(engine, prompts)
            for method in ways:
                decode(prompts[0], method, -1)
        for repeat in range(repeats):
            if all((prompt.request.id, repeat) in done for prompt in prompts):
                continue
            for experience in experiences.values():
                experience.forget()
            for each in remembering.values():
                each.memory.forget()
            for index, prompt in enumerate(prompts):
                name = prompt.request.id
                if (name, repeat) in done:
                    # Answered before an interruption: these ways have to learn it again.
                    for method in learning:
                        decode(prompt, method, repeat)
                    continue
                own = [timing for timing in timings if timing.prompt == name]
                order = list(ways) if wanted is None else list(wanted(name, repeat, own))
                turn = (index + repeat) % len(order)
                new = [decode(prompt, m, repeat) for m in order[turn:] + order[:turn]]
                if path is not None:
                    _append_timings(path, new)
                timings += new
                advance(1)
    return timings


def _read_each_once(engine: Engine, prompts: Sequence[TimedPrompt]) -> None:
    """Prefixes are read, and prompts' shapes captured, before the clock runs, at no way's cost."""
    for prompt in prompts:
        engine.generate([replace(prompt.request, max_new_tokens=1)])


def _append_timings(path: Path, timings: Sequence[Timing]) -> None:
    """Add one prompt's timings as one line, so that a line is whole or not there."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps([asdict(timing) for timing in timings]) + "\n")


def _go_on_from(path: Path) -> list[Timing]:
    """What an interrupted attempt measured; a line cut by the interruption is dropped."""
    if not path.is_file():
        return []
    whole = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            json.loads(line)
        except ValueError:
            continue
        whole.append(line + "\n")
    write_atomically(path, "".join(whole))
    return read_timings(path)


def read_timings(path: Path) -> list[Timing]:
    """The timings of a finished evaluation."""
    return [
        Timing(**{**each, "steps": tuple(StepRecord(**step) for step in each["steps"])})
        for line in path.read_text(encoding="utf-8").splitlines()
        for each in json.loads(line)
    ]
