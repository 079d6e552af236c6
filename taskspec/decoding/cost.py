"""The speed-up model S = tau / (k c + v(k + 1) + o), and the measuring of its parts.

tau is a property of draft and prompts; c and v are of the machine: bare forwards of the same
modules in a tight loop.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise

import numpy as np
import torch

from taskspec.decoding.cached_model import CachedModel
from taskspec.decoding.records import DraftChoice, StepRecord
from taskspec.interfaces import Drafter, Sampling, Target


@dataclass(frozen=True)
class TargetCost:
    """Times of target passes.

    Attributes:
        seconds: Median seconds of a pass over 1, 2, ... tokens.
    """

    seconds: tuple[float, ...]

    def verify_ratio(self, tokens: int) -> float:
        """v(n): time of a pass over n tokens relative to one token.

        Passes longer than any timed are taken to cost as much a token as the longest.
        """
        most = len(self.seconds)
        return self.seconds[min(tokens, most) - 1] / self.seconds[0] * max(1.0, tokens / most)


@dataclass(frozen=True)
class AcceptanceCurve:
    """What a draft brings on some prompts, whatever the machine.

    Attributes:
        block_efficiency: tau at each draft length 1, 2, ... K.
        drafted: Share of steps that really drafted 0, 1, ... K tokens where K were asked for.
    """

    block_efficiency: tuple[float, ...]
    drafted: tuple[float, ...]

    def up_to(self, k: int) -> AcceptanceCurve:
        """The curve of drafts of at most k tokens."""
        return AcceptanceCurve(
            self.block_efficiency[:k], (*self.drafted[:k], sum(self.drafted[k:]))
        )

    def within(self, other: AcceptanceCurve) -> AcceptanceCurve:
        """This curve where no place adds more to tau than it does in another.

        Places that the other does not know add no more than the last one that it knows.
        """
        own, most = ((1.0, *each.block_efficiency) for each in (self, other))
        added = [b - a for a, b in pairwise(own)]
        bounds = [b - a for a, b in pairwise(most)]
        bounded = [min(pair) for pair in zip(added, bounds, strict=False)]
        kept = [*bounded, *added[len(bounded) :]]
        falling = accumulate(kept, min)
        return AcceptanceCurve(tuple(accumulate(falling, initial=1.0))[1:], self.drafted)

    def mean_drafted(self, k: int) -> float:
        """Tokens really drafted per step at draft length k."""
        return sum(self._reaching[1 : k + 1])

    def mean_attempts(self, k: int) -> float:
        """The same and, where a draft ended early, the token it did not propose."""
        return sum(self._reaching[:k])

    @cached_property
    def _reaching(self) -> tuple[float, ...]:
        """Share of steps that drafted at least 0, 1, ... K tokens."""
        return tuple(accumulate(reversed(self.drafted)))[::-1]

    def speedup(self, k: int, draft_seconds: float, cost: TargetCost, overhead: float) -> float:
        """S = tau / (k c + v(k + 1) + o), each step at the cost of what it really drafted.

        Args:
            k: Draft length, at most as many as there are entries.
            draft_seconds: Seconds per attempt.
            cost: Target passes.
            overhead: o, relative to a target pass over one token.
        """
        c = draft_seconds / cost.seconds[0]
        verify = sum(
            share * cost.verify_ratio(min(drafted, k) + 1)
            for drafted, share in enumerate(self.drafted)
        )
        return self.block_efficiency[k - 1] / (self.mean_attempts(k) * c + verify + overhead)


def best_length(promises: Mapping[int, float]) -> int:
    """The shortest draft length whose promised speed-up is the best or within 2 % of it.

    Near the best length the promise is flat, and costs are measured with noise: where a longer
    draft would not pay, a shorter one loses little.
    """
    most = max(promises.values())
    return min(k for k, promise in promises.items() if promise >= _AS_GOOD * most)


_AS_GOOD = 0.98


def acceptance_curve(
    steps: Mapping[str, Sequence[StepRecord]], longest: int
) -> AcceptanceCurve | None:
    """Read tau at every draft length up to `longest` off steps drafted at that one or a longer one.

    A step that drafted K tokens and accepted a would, at k <= K, have accepted min(a, k). Steps
    that the end of an answer cut are left out. None when there are no steps.
    """
    whole = [s for each in steps.values() for s in each if s.emitted == s.accepted + 1]
    if not whole:
        return None
    lengths = range(1, longest + 1)
    return AcceptanceCurve(
        tuple(1 + sum(min(s.accepted, k) for s in whole) / len(whole) for k in lengths),
        tuple(
            sum(min(s.drafted, longest) == d for s in whole) / len(whole)
            for d in range(longest + 1)
        ),
    )


def mean_curve(curves: Sequence[AcceptanceCurve]) -> AcceptanceCurve:
    """The mean of several tasks' curves, over the lengths that all have."""

    def mean(parts: Sequence[tuple[float, ...]]) -> tuple[float, ...]:
        return tuple(statistics.fmean(each) for each in zip(*parts, strict=True))

    shortest = min(len(each.block_efficiency) for each in curves)
    cut = [each.up_to(shortest) for each in curves]
    return AcceptanceCurve(
        mean([each.block_efficiency for each in cut]), mean([each.drafted for each in cut])
    )


def measure_target(
    model: CachedModel,
    prompt: Sequence[int],
    most_tokens: int,
    context: int,
    repeats: int = 40,
) -> TargetCost:
    """Time target passes, head included, after a prompt; interleaved over the token counts.

    Beyond 16 tokens not every count is timed; those between lie on a line.

    Args:
        model: The target as an idle engine runs it.
        prompt: Tokens that come before.
        most_tokens: The longest pass to time, if the context holds so many.
        context: Tokens that the target's context holds, more than the prompt has.
        repeats: Timed repeats of each.
    """
    most_tokens = min(most_tokens, context - len(prompt))
    tokens = torch.tensor([list(prompt)], device=model.device)
    widths = _widths(most_tokens)
    times: dict[int, list[float]] = {width: [] for width in widths}
    try:
        model.forward([0], tokens)
        length = model.length(0)
        with torch.inference_mode():
            for repeat in range(repeats + 1):
                for width in widths:
                    step = tokens[:, -1:].expand(1, width)
                    started = _now(model.device)
                    model.head(model.forward([0], step))
                    if repeat:
                        times[width].append(_now(model.device) - started)
                    model.rollback(0, length)
    finally:
        # Whatever breaks it, the next request in this row begins with nothing.
        model.rollback(0, 0)
    known = [statistics.median(times[width]) for width in widths]
    between = np.interp(range(1, most_tokens + 1), widths, known)
    return TargetCost(tuple(float(seconds) for seconds in between))


def _widths(most: int) -> list[int]:
    """Token counts worth timing: each at first, then by steps of eight, then of an eighth."""
    widths = list(range(1, min(most, _EACH) + 1))
    while widths[-1] < most:
        widths.append(min(most, widths[-1] + max(8, widths[-1] // 8)))
    return widths


_EACH = 16
_GREEDY = Sampling()


def measure_draft(
    drafter: Drafter,
    choice: DraftChoice,
    target: Target,
    prompt: Sequence[int],
    sampling: Sampling = _GREEDY,
    repeats: int = 7,
) -> float:
    """Median seconds per drafted token of one row, drafting `choice.draft_length` at a time.

    A draft that ends early is timed per attempt: the token it did not propose cost as much. One
    that samples does more per token than one that takes the likeliest.
    """
    row, k = 0, choice.draft_length
    hidden = None
    if drafter.hidden_layers:
        width = target.hidden_size * len(drafter.hidden_layers)
        hidden = torch.zeros(len(prompt) - 1, width, dtype=target.dtype, device=target.device)
    times = []
    emitted = torch.tensor([[prompt[-1]]])
    shape = repeats + 1, k
    seeded = torch.Generator().manual_seed(0)
    noise = torch.zeros(shape) if sampling.greedy else torch.rand(shape, generator=seeded)
    try:
        drafter.start(row, prompt, sampling, hidden, choice.adapter)
        for repeat in range(repeats + 1):
            started = _now(target.device)
            proposal = drafter.propose([row], [k], noise[repeat : repeat + 1])
            seconds = _now(target.device) - started
            if repeat:
                times.append(seconds / min(k, int(proposal.lengths[0]) + 1))
            step_hidden = None if hidden is None else hidden[:1].expand(1, 1, -1)
            drafter.commit([row], emitted, torch.tensor([1]), step_hidden)
    finally:
        drafter.stop(row)
    return statistics.median(times)


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
