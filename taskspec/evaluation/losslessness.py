"""Tests of losslessness: answers with drafts beside those of plain decoding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from scipy.stats import kstest
from torch import Tensor

from taskspec.decoding.engine import Engine
from taskspec.decoding.records import DraftChoice, Generation, Request
from taskspec.decoding.sampling import probabilities
from taskspec.evaluation.certificate import FaultFinding, GreedyFinding, SampledFinding
from taskspec.evaluation.faults import faults_of
from taskspec.interfaces import Sampling, Verifier
from taskspec.models.loading import LanguageModel

MIXED = "all, mixed in a batch"
TIE = 2**-6
"""Relative gap of two logits that bfloat16, with steps of 2**-7 to 2**-8, may confuse."""


@dataclass(frozen=True)
class Setting:
    """How prompts are answered.

    Attributes:
        draft: The draft's name.
        choices: What requests carry, in turn.
        batch_size: Rows decoded together.
    """

    draft: str
    choices: tuple[DraftChoice | None, ...]
    batch_size: int


def greedy_settings(
    choices: dict[str, dict[int, DraftChoice]], batch_sizes: Sequence[int]
) -> list[Setting]:
    """Every draft at every length in every batch size, and all drafts in turn in one batch.

    Args:
        choices: By the draft's name, then by draft length.
        batch_sizes: Rows decoded together.
    """
    found = [
        Setting(f"{name}, {length}", (choice,), size)
        for name, lengths in choices.items()
        for length, choice in lengths.items()
        for size in batch_sizes
    ]
    every = tuple(choice for lengths in choices.values() for choice in lengths.values())
    found += [Setting("plain", (None,), size) for size in batch_sizes if size > 1]
    found += [Setting(MIXED, (None, *every), size) for size in batch_sizes if size > 1]
    return found


def _requests(prompts: Sequence[Request], setting: Setting) -> list[Request]:
    turns = setting.choices
    return [replace(each, draft=turns[i % len(turns)]) for i, each in enumerate(prompts)]


def certify_greedy(
    engine: Engine,
    target: LanguageModel,
    prompts: Sequence[Request],
    settings: Sequence[Setting],
    expected: Sequence[Generation],
    on_done: Callable[[str], None] = lambda _: None,
) -> GreedyFinding:
    """Answer all prompts in all settings and compare with plain decoding, token for token.

    Args:
        engine: Of the target, with the drafts.
        target: Says how near two logits are.
        prompts: Greedy requests.
        settings: How to answer them.
        expected: Their plain answers, one prompt at a time.
        on_done: Told after each setting.
    """
    mismatches: list[str] = []
    gaps: list[float] = []
    exact = target.dtype == torch.float32
    for setting in settings:
        found = engine.generate(_requests(prompts, setting), setting.batch_size)
        for request, one, other in zip(prompts, expected, found, strict=True):
            if one.tokens == other.tokens:
                continue
            place = _first_difference(one.tokens, other.tokens)
            gap = _gap(target, request, one.tokens, other.tokens, place)
            if not exact and gap is not None and gap <= TIE:
                gaps.append(gap)
            else:
                where = f"{setting.draft}, batch {setting.batch_size}"
                mismatches.append(f"{request.id}: {where}: token {place}")
        on_done(setting.draft)
    dtype = str(target.dtype).removeprefix("torch.")
    combinations = len(prompts) * len(settings)
    return GreedyFinding(dtype, combinations, tuple(mismatches), len(gaps), max(gaps, default=0.0))


def _first_difference(one: Sequence[int], other: Sequence[int]) -> int:
    pairs = enumerate(zip(one, other, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(one), len(other)))


@torch.inference_mode()
def _gap(
    target: LanguageModel, request: Request, one: Sequence[int], other: Sequence[int], place: int
) -> float | None:
    """Relative gap between the logits of the two tokens at a place; None where one answer ends."""
    if place >= min(len(one), len(other)):
        return None
    logits = _logits(target, [*request.prompt, *one[:place]])[-1]
    pair = logits[[one[place], other[place]]]
    return float((pair[0] - pair[1]).abs() / pair.abs().max())


def _logits(target: LanguageModel, text: Sequence[int]) -> Tensor:
    """float32 [T, V], what transformers' own forward gives."""
    untyped = target.model
    logits: Tensor = untyped(input_ids=torch.tensor([list(text)], device=target.device)).logits
    return logits[0].float()


@torch.inference_mode()
def certify_sampled(
    engine: Engine,
    target: LanguageModel,
    prompts: Sequence[Request],
    settings: Sequence[Setting],
    sampling: Sampling,
    draws: int,
    on_done: Callable[[str], None] = lambda _: None,
) -> SampledFinding:
    """Sample answers with drafts and rank every token in the target's distribution.

    Args:
        engine: Of the target, with the drafts.
        target: Gives the distributions.
        prompts: Requests; their sampling and seeds are not used.
        settings: How to answer them.
        sampling: The logits processors.
        draws: Answers for each prompt and setting.
        on_done: Told after each setting.
    """
    generator = torch.Generator().manual_seed(0)
    ranks: list[float] = []
    impossible = answers = 0
    for number, setting in enumerate(settings):
        # Answers must not share their noise: the test takes their tokens for independent.
        asked = [(e, draw) for e in _requests(prompts, setting) for draw in range(draws)]
        requests = [
            replace(
                each,
                id=f"{each.id}/{draw}",
                sampling=sampling,
                seed=number * len(asked) + index,
            )
            for index, (each, draw) in enumerate(asked)
        ]
        for request, found in zip(
            requests, engine.generate(requests, setting.batch_size), strict=True
        ):
            answers += 1
            if len(found.tokens) < 2:
                continue
            text = [*request.prompt, *found.tokens]
            p = probabilities(_logits(target, text)[len(request.prompt) : -1], sampling).cpu()
            own = torch.tensor(found.tokens[1:])
            impossible += int((p.gather(1, own[:, None]) == 0).sum())
            ranks += _ranks(p.double(), own, generator).tolist()
        on_done(setting.draft)
    p_value = float(kstest(ranks, "uniform").pvalue) if ranks else 0.0
    processors = sampling.temperature, sampling.top_k, sampling.top_p
    return SampledFinding(*processors, answers, len(ranks), impossible, p_value)


def _ranks(p: Tensor, tokens: Tensor, generator: torch.Generator) -> Tensor:
    """Mass [M] before each token in order of probability, and a uniform share of its own."""
    own = p.gather(1, tokens[:, None])
    ids = torch.arange(p.shape[1])
    before = (p > own) | ((p == own) & (ids < tokens[:, None]))
    share = torch.rand(len(tokens), generator=generator, dtype=torch.float64)
    return (p * before).sum(dim=1) + share * own[:, 0]


def try_faults(
    new_engine: Callable[[], Engine],
    target: LanguageModel,
    prompts: Sequence[Request],
    settings: Sequence[Setting],
    expected: Sequence[Generation],
    sampling: Sampling | None,
    draws: int,
    broken_rules: Callable[[Verifier], tuple[str, ...]],
    on_done: Callable[[str], None] = lambda _: None,
) -> tuple[FaultFinding, ...]:
    """Run all tests on engines that are known to be wrong.

    Args:
        new_engine: Makes one to spoil.
        target: As for the tests.
        prompts: Greedy requests.
        settings: With drafts.
        expected: Their plain answers.
        sampling: Processors of the sampled test; None leaves it out.
        draws: Answers for each prompt and setting.
        broken_rules: Names the rules that a verifier breaks.
        on_done: Told after each fault.
    """
    found = []
    for fault in faults_of(new_engine().verifier):
        engine = new_engine()
        fault.plant(engine)
        greedy = certify_greedy(engine, target, prompts, settings, expected)
        p_value = None
        if sampling is not None:
            sampled = certify_sampled(engine, target, prompts, settings, sampling, draws)
            p_value = 0.0 if sampled.impossible else sampled.p_value
        rules = broken_rules(engine.verifier) if fault.in_verdicts else None
        mismatches = len(greedy.mismatches)
        found.append(FaultFinding(fault.what, mismatches, greedy.combinations, p_value, rules))
        on_done(fault.what)
    return tuple(found)
