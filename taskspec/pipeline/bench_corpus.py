"""All rows of the benchmark table on any corpus."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from taskspec.corpus.examples import Example, Message
from taskspec.decoding.engine import Engine
from taskspec.decoding.records import Request
from taskspec.errors import CorpusError
from taskspec.evaluation.comparison import Comparison
from taskspec.evaluation.matrix import Timing
from taskspec.evaluation.table import ResultRow
from taskspec.pipeline.comparing import TIMINGS, compare, kept, prompt_hash
from taskspec.pipeline.environment import describe_environment
from taskspec.pipeline.held_out import HeldOut
from taskspec.pipeline.progress import progress
from taskspec.pipeline.scores import Accuracy
from taskspec.pipeline.subject import Subject
from taskspec.pipeline.table_rows import benchmark_rows, speed_regret, with_references
from taskspec.pipeline.timing import Methods, time_ways
from taskspec.pipeline.verifiers import plain_verifier
from taskspec.registry import Registry
from taskspec.serving.seen import leave_out_seen

_BASELINES = ("vanilla", "single", "prompt-lookup")
_BATCH = 16


@dataclass(frozen=True)
class CorpusPlan:
    """How a corpus is benchmarked.

    Attributes:
        turns: `first`, or `all`: every later turn too, after the target's own earlier answers.
        per_task: Conversations of each task, drawn with the seed; 0 for all.
        tokens: Answers are cut there.
        repeats: Rounds, each with all methods in rotated order.
        resamples: Bootstrap resamples.
        seed: Of the draw; prompts' own seeds count up from it.
    """

    turns: str = "first"
    per_task: int = 10
    tokens: int = 48
    repeats: int = 2
    resamples: int = 10_000
    seed: int = 0


def bench_corpus(
    subject: Subject,
    registry: Registry,
    examples: Sequence[Example],
    plan: CorpusPlan,
    console: Console,
    folder: Path | None = None,
) -> Comparison:
    """Time every method that there are drafts for, one prompt at a time, interleaved.

    Args:
        subject: What is tested.
        registry: The plugins.
        examples: The corpus; where rows name a split, those of `test` count.
        plan: How.
        console: Where progress is shown.
        folder: Keeps results, and timings to go on from; None keeps nothing.

    Raises:
        CorpusError: When no prompt is left to answer.
    """
    chosen, notes = choose(subject, examples, plan)
    prompts = conversations(subject, registry, chosen, plan, console)
    methods = Methods(subject.assigned, subject.pool, prompts)
    missing = [name for name in _BASELINES if name not in subject.assigned.baselines]
    elsewhere = "; the run's folder may have more" if set(subject.results) == {"bundle"} else ""
    if missing:
        notes.append(f"no draft for {', '.join(missing)} here{elsewhere}")
    if plan.turns == "all":
        notes.append(
            "later turns follow the target's own plain greedy answers, the same for all methods"
        )
        cut = sum(1 + len(each.later) for each, _ in chosen) - len(prompts)
        if cut:
            notes.append(f"{cut} later turns left out: with what came before they are too long")
    environment = {
        **describe_environment(registry),
        "fingerprint": subject.target.fingerprint,
        "dtype": subject.dtype,
        "decode": dict(subject.decode),
        "seed": plan.seed,
        "plan": vars(plan),
    }

    def rows(timings: Sequence[Timing], tasks: dict[str, str]) -> list[ResultRow]:
        own = [prompt for prompt in prompts if prompt.request.id in tasks]
        accuracy = Accuracy(subject.engine, own, _BATCH)
        matrix = with_references(timings, methods, tasks, plan.resamples)
        return benchmark_rows(matrix, methods, accuracy)

    def measure(work: Path) -> Comparison:
        ways = methods.ways(subject.router, subject.pool)
        timings = time_ways(console, work / TIMINGS, subject.engine, ways, prompts, plan.repeats)
        tasks = {prompt.request.id: prompt.row for prompt in prompts}
        regret = speed_regret(with_references(timings, methods, tasks, 1))
        return compare(timings, prompts, rows, notes, environment, regret)

    drafts = {name: str(choice) for name, choice in methods.choices.items()}
    made = [drafts, str(methods.routed), dict(subject.results)]
    return kept(folder, [environment, prompt_hash(prompts), *made], measure)


def choose(
    subject: Subject, examples: Sequence[Example], plan: CorpusPlan
) -> tuple[list[tuple[Example, str]], list[str]]:
    """The conversations to answer, each with its row, and what was left out.

    Raises:
        CorpusError: When none is left.
    """
    held_out = [e for e in examples if e.split == "test"]
    if any(example.split is not None for example in examples):
        examples = held_out
    fresh, notes = leave_out_seen(list(examples), subject.seen)
    room = subject.target.context_length - plan.tokens
    fitting = [each for each in fresh if _length(subject, each) <= room]
    if len(fitting) < len(fresh):
        notes.append(f"{len(fresh) - len(fitting)} prompts leave no room for {plan.tokens} tokens")
    if not fitting:
        why = "; ".join(notes) or "none has the split `test`"
        raise CorpusError(f"no prompt of the corpus can be benchmarked: {why}")
    labelled = all(example.task is not None for example in fitting)
    groups: dict[str, list[Example]] = {}
    for example in fitting:
        found = subject.router.route(example.prompt_text).assignment.task
        groups.setdefault((example.task or found) if labelled else found, []).append(example)
    if not labelled:
        notes.append("not every prompt names its task; rows are the tasks that the router found")
    chosen = []
    for name, members in groups.items():
        count = min(plan.per_task or len(members), len(members))
        chosen += [(each, name) for each in random.Random(plan.seed).sample(members, count)]
    return chosen, notes


def conversations(
    subject: Subject,
    registry: Registry,
    chosen: Sequence[tuple[Example, str]],
    plan: CorpusPlan,
    console: Console,
) -> list[HeldOut]:
    """A prompt per turn: later ones hold the target's own plain greedy answers to earlier ones."""
    prompts: list[HeldOut] = []
    open_now, turn = list(chosen), 1
    while open_now:
        first = plan.seed + len(prompts)
        asked = [
            _prompt(subject, each, row, plan, turn, first + number)
            for number, (each, row) in enumerate(open_now)
        ]
        prompts += asked
        if plan.turns == "first":
            break
        going_on = [each for each in asked if each.example.later]
        open_now, turn = _next_turn(subject, registry, going_on, plan, console), turn + 1
    return prompts


def _prompt(
    subject: Subject, example: Example, row: str, plan: CorpusPlan, turn: int, seed: int
) -> HeldOut:
    name = example.id if turn == 1 else f"{example.id}, turn {turn}"
    ids = subject.target.chat_ids(example.messages, subject.system)
    request = Request(name, ids, plan.tokens, subject.sampling, seed=seed)
    return HeldOut(request, example, row, subject.router.route(example.prompt_text))


def _next_turn(
    subject: Subject,
    registry: Registry,
    asked: Sequence[HeldOut],
    plan: CorpusPlan,
    console: Console,
) -> list[tuple[Example, str]]:
    """The conversations with their answers and what the user says then, those that still fit."""
    if not asked:
        return []
    engine = Engine(subject.target, plain_verifier(registry, greedy=True))
    greedy = [replace(each.request, sampling=type(subject.sampling)()) for each in asked]
    with progress(console, "answering earlier turns", len(asked)) as advance:
        answers = engine.generate(greedy, _BATCH, on_finish=lambda _: advance(1))
    going_on = []
    room = subject.target.context_length - plan.tokens
    for each, answer in zip(asked, answers, strict=True):
        text = subject.target.tokenizer.decode(answer.tokens, skip_special_tokens=True)
        said, *later = each.example.later
        messages = (*each.example.messages, Message("assistant", text), Message("user", said))
        example = replace(each.example, messages=messages, later=tuple(later))
        if _length(subject, example) <= room:
            going_on.append((example, each.row))
    return going_on


def _length(subject: Subject, example: Example) -> int:
    return len(subject.target.chat_ids(example.messages, subject.system))
