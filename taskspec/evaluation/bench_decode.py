"""How fast requests are answered: ours with and without drafts, and other engines, in turn."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

import numpy as np

from taskspec.corpus.answers import is_looping
from taskspec.decoding.cost import TargetCost, measure_target
from taskspec.decoding.records import DraftChoice, Request, StepRecord
from taskspec.evaluation.bench_batches import BatchSpeed, bench_batches
from taskspec.evaluation.bench_cost import Cost, measure_bandwidth, model_cost, pass_bytes
from taskspec.evaluation.bench_engines import EnginePlan, OtherEngine
from taskspec.evaluation.bench_ways import (
    Answered,
    BenchPrompt,
    always,
    ours,
    routed_draft,
    take_turns,
    theirs,
)
from taskspec.evaluation.metrics import acceptance_rate, block_efficiency
from taskspec.evaluation.statistics import Interval, Speeds, speedup_interval
from taskspec.serving.bundle import Bundle
from taskspec.serving.correcting import measure_correction

PLAIN, ROUTED, CORRECTED = "plain", "routed", "routed, corrected"
_RESAMPLES = 10_000
_TYPICAL = 32


@dataclass(frozen=True)
class MethodSpeed:
    """One way to answer all prompts.

    Attributes:
        name: Its name.
        tokens_per_second: Pooled: all tokens over the sum of each prompt's median seconds.
        ratio: That over our plain decoding's, with its interval.
        steady_ratio: The same without looping answers; None when all loop or none does.
        by_task: The ratio of each task.
        block_efficiency: tau; None for engines that do not tell.
        acceptance_rate: Accepted over drafted tokens; None likewise.
        cost: For one draft at one length.
    """

    name: str
    tokens_per_second: float
    ratio: Interval
    steady_ratio: float | None
    by_task: Mapping[str, float]
    block_efficiency: float | None = None
    acceptance_rate: float | None = None
    cost: Cost | None = None


@dataclass(frozen=True)
class DecodeBench:
    """What was measured.

    Attributes:
        methods: Ours first, then other engines.
        overhead: o, a plain step's time beyond the target pass, over that pass's.
        pass_seconds: Median seconds of bare target passes over 1, 2, ... tokens.
        bandwidth: Bytes per second of the best of five reads of 1 GiB.
        pass_bytes: Weights and cached keys and values that a one-token pass reads.
        peak_memory: Most memory of this process before other engines were loaded, in bytes.
        looping: Share of answers that loop (metrics.md).
        tokens: Tokens of each answer.
        prompts: Ids of the prompts.
        batches: Several prompts at a time.
        versions: Versions of the other engines, by method.
        failed: What engines said that ended on the way, and are left out, by method.
    """

    methods: tuple[MethodSpeed, ...]
    overhead: float
    pass_seconds: tuple[float, ...]
    bandwidth: float
    pass_bytes: int
    peak_memory: int
    looping: float
    tokens: int
    prompts: tuple[str, ...]
    batches: tuple[BatchSpeed, ...]
    versions: Mapping[str, str]
    failed: Mapping[str, str]

    @property
    def roofline(self) -> float:
        """Share of the measured bandwidth at which a one-token target pass reads."""
        return self.pass_bytes / self.bandwidth / self.pass_seconds[0]


@dataclass(frozen=True)
class BenchPlan:
    """What to measure.

    Attributes:
        tokens: Tokens of each answer, whatever ends come.
        repeats: Rounds: every way answers each prompt once in each, and batches `TURNS` times;
            medians count.
        batches: Numbers of prompts to answer together, after one at a time.
        others: Other engines, by the name of the method.
        assistant: One of the bundle's drafts and how far it drafts, to set our own engine beside
            others that use the same draft.
        correct: Answer with in-flight correction, too.
    """

    tokens: int
    repeats: int
    batches: Sequence[int] = ()
    others: Mapping[str, EnginePlan] = field(default_factory=dict)
    assistant: tuple[str, int] | None = None
    correct: bool = False


def bench_decode(
    bundle: Bundle,
    prompts: Sequence[BenchPrompt],
    plan: BenchPlan,
    on_done: Callable[[], None],
) -> DecodeBench:
    """Answer every prompt in every way, `repeats` times, ways taking turns at each prompt.

    Args:
        bundle: Target, drafts and router; drafts run at every length they were assigned with.
        prompts: What to answer, greedily.
        plan: How, how often, and beside what.
        on_done: Told after each prompt of each repeat, and after each pass in batches.

    Raises:
        TaskSpecError: When another engine cannot run here.
    """
    tokens, drafts = plan.tokens, _drafts(bundle)
    sample = max((prompt.ids for prompt in prompts), key=len)
    lengths = [choice.draft_length for choice in drafts.values()]
    longest, context = max((*lengths, 1)), bundle.target.context_length
    cost = measure_target(bundle.engine.model, sample, longest + 1, context)
    ways = {
        PLAIN: ours(bundle.engine, tokens, lambda _: None),
        ROUTED: ours(bundle.engine, tokens, lambda prompt: routed_draft(bundle, prompt)),
    }
    if plan.correct:
        typical = Request(prompts[0].id, prompts[0].ids, min(tokens, _TYPICAL), ignore_eos=True)
        # Repeats of the same prompts would tell each other which draft is best.
        correction = replace(measure_correction(bundle, typical), experience=None)
        ways[CORRECTED] = ours(
            bundle.engine, tokens, lambda prompt: routed_draft(bundle, prompt), correction
        )
    for name, choice in drafts.items():
        ways[name] = always(bundle.engine, tokens, choice)
    if plan.assistant is not None:
        name, length = plan.assistant
        assisted = bundle.pool.choice(name, length)
        ways[f"{name}, {length} tokens"] = always(bundle.engine, tokens, assisted)
    for answer in ways.values():
        answer(prompts[0])
    memory = _peak_memory()
    bandwidth = measure_bandwidth(bundle.target.device)
    with ExitStack() as engines:
        versions = {}
        for name, other in plan.others.items():
            engine = engines.enter_context(OtherEngine(other))
            ways[name], versions[name] = theirs(engine, tokens), engine.version
            ways[name](prompts[0])
        found, failed = take_turns(ways, prompts, plan.repeats, on_done)
    overhead = _overhead(found[PLAIN], cost)
    costs = {
        name: _cost(bundle, name, choice, found, cost, prompts[0].ids, overhead)
        for name, choice in drafts.items()
    }
    loops = [is_looping(answers[0].tokens) for answers in found[PLAIN]]
    methods = tuple(_speed(name, found, prompts, tokens, loops, costs.get(name)) for name in found)
    return DecodeBench(
        methods,
        overhead,
        cost.seconds,
        bandwidth,
        pass_bytes(bundle.target, len(sample)),
        memory,
        sum(loops) / len(loops),
        tokens,
        tuple(prompt.id for prompt in prompts),
        _batches(bundle, prompts, plan, methods[0], found[PLAIN], on_done),
        versions,
        failed,
    )


def _cost(
    bundle: Bundle,
    name: str,
    choice: DraftChoice,
    found: Mapping[str, list[list[Answered]]],
    cost: TargetCost,
    prompt: Sequence[int],
    overhead: float,
) -> Cost:
    return model_cost(
        bundle.pool.drafters[choice.draft],
        choice,
        bundle.target,
        cost,
        prompt,
        _steps(found[name]),
        overhead,
        _decode_seconds(found[PLAIN]) / _decode_seconds(found[name]),
    )


def _batches(
    bundle: Bundle,
    prompts: Sequence[BenchPrompt],
    plan: BenchPlan,
    plain: MethodSpeed,
    answers: Sequence[Sequence[Answered]],
    on_done: Callable[[], None],
) -> tuple[BatchSpeed, ...]:
    if not plan.batches:
        return ()
    requests = [Request(each.id, each.ids, plan.tokens, ignore_eos=True) for each in prompts]
    return bench_batches(
        bundle,
        requests,
        lambda: [
            replace(request, draft=routed_draft(bundle, prompt))
            for request, prompt in zip(requests, prompts, strict=True)
        ],
        plan.batches,
        plan.repeats,
        plain.tokens_per_second,
        {each.id: own[0].tokens for each, own in zip(prompts, answers, strict=True)},
        on_done,
    )


def _drafts(bundle: Bundle) -> dict[str, DraftChoice]:
    """Every draft that serves a task, at each length that it serves one with, by both."""
    found: dict[str, DraftChoice] = {}
    for each in (*bundle.manifest.tasks, bundle.manifest.fallback):
        choice = bundle.pool.choice(each.draft, each.draft_length)
        if choice is not None:
            found[f"{each.draft}, {each.draft_length}"] = choice
    return found


def _speed(
    name: str,
    found: Mapping[str, list[list[Answered]]],
    prompts: Sequence[BenchPrompt],
    tokens: int,
    loops: Sequence[bool],
    cost: Cost | None,
) -> MethodSpeed:
    tasks = [prompt.task for prompt in prompts]
    own, plain = (speeds(found[each], tokens) for each in (name, PLAIN))
    steps = _steps(found[name])

    def part(chosen: Sequence[bool]) -> float:
        mask = np.asarray(chosen)
        return float(plain.seconds[mask].sum() / own.seconds[mask].sum())

    steady = [not loop for loop in loops]
    return MethodSpeed(
        name,
        float(own.tokens.sum() / own.seconds.sum()),
        speedup_interval(own, plain, tasks, _RESAMPLES),
        part(steady) if any(steady) and any(loops) else None,
        {task: part([each == task for each in tasks]) for task in dict.fromkeys(tasks)},
        block_efficiency(steps),
        acceptance_rate(steps),
        cost,
    )


def speeds(answers: Sequence[Sequence[Answered]], tokens: int) -> Speeds:
    """Tokens and median seconds of every prompt's answers by one way."""
    seconds = [statistics.median(each.seconds for each in own) for own in answers]
    return Speeds(np.full(len(seconds), float(tokens)), np.asarray(seconds))


def _steps(answers: Sequence[Sequence[Answered]]) -> list[StepRecord]:
    return [step for own in answers for step in own[0].steps]


def _decode_seconds(answers: Sequence[Sequence[Answered]]) -> float:
    """Seconds of all prompts after their first tokens, medians over repeats."""
    return sum(statistics.median(each.seconds - each.first for each in own) for own in answers)


def _overhead(plain: Sequence[Sequence[Answered]], cost: TargetCost) -> float:
    return max(0.0, _decode_seconds(plain) / max(1, len(_steps(plain))) / cost.seconds[0] - 1)


def _peak_memory() -> int:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
