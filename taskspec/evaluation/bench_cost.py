"""What limits decoding: the memory's speed, and the speed-up model's terms as measured."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from taskspec.decoding.cost import TargetCost, measure_draft
from taskspec.decoding.records import DraftChoice, StepRecord
from taskspec.evaluation.metrics import block_efficiency
from taskspec.interfaces import Drafter
from taskspec.models.loading import LanguageModel


@dataclass(frozen=True)
class Cost:
    """The speed-up model of one draft at one length: S = tau / (k c + v(k + 1) + o).

    Attributes:
        draft_length: k.
        draft_ratio: c, a drafted token's time over a target pass's.
        verify_ratio: v(k + 1), the mean over its steps.
        predicted: S with the o measured.
        ideal: S with o = 0.
        efficiency: The decode speed-up measured, prefill left out, over `ideal`.
    """

    draft_length: int
    draft_ratio: float
    verify_ratio: float
    predicted: float
    ideal: float
    efficiency: float


def model_cost(
    drafter: Drafter,
    choice: DraftChoice,
    target: LanguageModel,
    target_cost: TargetCost,
    prompt: Sequence[int],
    steps: Sequence[StepRecord],
    overhead: float,
    measured: float,
) -> Cost:
    """The speed-up that the parts promise, against the one that was measured.

    Args:
        drafter: The draft.
        choice: Its length and adapter.
        target: The target.
        target_cost: Bare target passes.
        prompt: Tokens to draft after, for its own cost.
        steps: What its answers took.
        overhead: o of plain decoding.
        measured: Decode speed-up over plain decoding, prefill left out.
    """
    seconds = measure_draft(drafter, choice, target, prompt)
    attempts = sum(min(s.drafted + 1, choice.draft_length) for s in steps) / max(1, len(steps))
    tau, c = block_efficiency(steps) or 1.0, seconds / target_cost.seconds[0]
    # A lookup that finds nothing drafts nothing: each step at the cost of what it drafted.
    passes = [target_cost.verify_ratio(step.drafted + 1) for step in steps]
    v = sum(passes) / len(passes) if passes else target_cost.verify_ratio(choice.draft_length + 1)
    ideal = tau / (attempts * c + v)
    predicted = tau / (attempts * c + v + overhead)
    return Cost(choice.draft_length, c, v, predicted, ideal, measured / ideal)


def measure_bandwidth(device: torch.device) -> float:
    """Bytes per second of the best of five reads of 1 GiB, on a CPU with all threads."""
    block = torch.ones(1 << 28, device=device)
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        block.sum().item()
        seconds.append(time.perf_counter() - started)
    return block.numel() * block.element_size() / min(seconds)


def pass_bytes(target: LanguageModel, context: int) -> int:
    """Bytes of weights, keys and values that a one-token pass reads after `context` tokens."""
    model: Any = target.model
    decoder, config = model.get_decoder(), model.get_decoder().config
    looked_up = {id(each) for each in model.get_input_embeddings().parameters()}
    read = [each for each in decoder.parameters() if id(each) not in looked_up]
    read += model.get_output_embeddings().parameters()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    cached = 2 * config.num_hidden_layers * heads * size * context * target.dtype.itemsize
    return int(cached + sum(each.numel() * each.element_size() for each in read))
