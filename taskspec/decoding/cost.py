"""What a target pass and a drafted token cost on this machine.

These are the c and v of the speed-up model S = tau / (k c + v(k + 1) + o): bare forwards of the
same modules in a tight loop.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from taskspec.decoding.cached_model import CachedModel
from taskspec.decoding.records import DraftChoice
from taskspec.interfaces import Drafter, Sampling, Target


@dataclass(frozen=True)
class TargetCost:
    """Times of target passes.

    Attributes:
        seconds: Median seconds of a pass over 1, 2, ... tokens.
    """

    seconds: tuple[float, ...]

    def verify_ratio(self, tokens: int) -> float:
        """v(n): time of a pass over n tokens relative to one token."""
        return self.seconds[tokens - 1] / self.seconds[0]


def measure_target(
    model: CachedModel, prompt: Sequence[int], most_tokens: int, repeats: int = 15
) -> TargetCost:
    """Time target passes, head included, after a prompt; interleaved over the token counts.

    Args:
        model: The target as an idle engine runs it.
        prompt: Tokens that come before.
        most_tokens: The longest pass to time.
        repeats: Timed repeats of each.
    """
    tokens = torch.tensor([list(prompt)], device=model.device)
    model.forward([0], tokens)
    length = model.length(0)
    widths = range(1, most_tokens + 1)
    times: dict[int, list[float]] = {width: [] for width in widths}
    with torch.inference_mode():
        for repeat in range(repeats + 1):
            for width in widths:
                step = tokens[:, -1:].expand(1, width)
                started = _now(model.device)
                model.head(model.forward([0], step))
                if repeat:
                    times[width].append(_now(model.device) - started)
                model.rollback(0, length)
    model.rollback(0, 0)
    return TargetCost(tuple(statistics.median(times[width]) for width in widths))


def measure_draft(
    drafter: Drafter,
    choice: DraftChoice,
    target: Target,
    prompt: Sequence[int],
    repeats: int = 7,
) -> float:
    """Median seconds per drafted token of one row, drafting `choice.draft_length` at a time.

    A draft that ends early is timed per attempt: the token it did not propose cost as much.
    """
    row, k = 0, choice.draft_length
    hidden = None
    if drafter.hidden_layers:
        width = target.hidden_size * len(drafter.hidden_layers)
        hidden = torch.zeros(len(prompt) - 1, width, dtype=target.dtype, device=target.device)
    drafter.start(row, prompt, Sampling(), hidden, choice.adapter)
    times = []
    emitted = torch.tensor([[prompt[-1]]])
    for repeat in range(repeats + 1):
        started = _now(target.device)
        proposal = drafter.propose([row], [k], torch.zeros(1, k))
        seconds = _now(target.device) - started
        if repeat:
            times.append(seconds / min(k, int(proposal.lengths[0]) + 1))
        step_hidden = None if hidden is None else hidden[:1].expand(1, 1, -1)
        drafter.commit([row], emitted, torch.tensor([1]), step_hidden)
    drafter.stop(row)
    return statistics.median(times)


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
