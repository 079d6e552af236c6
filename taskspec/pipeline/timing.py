"""Timing every method on the same prompts, one prompt at a time, interleaved."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from taskspec.corpus.answers import is_looping
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
        for assignment in assigned.tasks:
            lengths.setdefault(assignment.draft, assignment.draft_length)
        used = dict.fromkeys(assignment.draft for assignment in assigned.tasks)
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
    timings = _go_on_from(path)
    done = {(timing.prompt, timing.repeat) for timing in timings}
    repeats = context.recipe.evaluate.repeats
    names = methods.timed()

    def decode(prompt: HeldOut, method: str, repeat: int) -> Timing:
        def prepare() -> Request:
            if method != ROUTED:
                return replace(prompt.request, draft=methods.choices[method])
            assignment = router.route(prompt.example.prompt_text).assignment
            choice = pool.choice(assignment.draft, assignment.draft_length)
            return replace(prompt.request, draft=choice)

        timed = decode_timed(engine, prepare)
        choice = methods.routed[prompt.request.id] if method == ROUTED else methods.choices[method]
        return Timing(
            prompt.request.id,
            method,
            repeat,
            timed.seconds,
            len(timed.generation.tokens),
            timed.generation.steps,
            0 if choice is None else choice.draft_length,
            is_looping(timed.generation.tokens),
        )

    def wanted(prompt: str, repeat: int) -> list[str]:
        if repeat == 0:
            return names
        first = Matrix([timing for timing in timings if timing.prompt == prompt], {}, 0)
        pick = first.fastest(methods.candidates(prompt), prompt)
        return [*dict.fromkeys((PLAIN, ROUTED, pick))]

    with progress(context.console, "timing methods", repeats * len(prompts), len(done)) as advance:
        for method in names:
            decode(prompts[0], method, -1)
        for repeat in range(repeats):
            for index, prompt in enumerate(prompts):
                if (prompt.request.id, repeat) in done:
                    continue
                order = wanted(prompt.request.id, repeat)
                turn = (index + repeat) % len(order)
                new = [decode(prompt, m, repeat) for m in order[turn:] + order[:turn]]
                _append_timings(path, new)
                timings += new
                advance(1)
    return timings


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
