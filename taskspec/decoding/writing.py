"""Texts sampled from one model alone, without a target: what a draft writes while it learns."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Generator, Tensor

from taskspec.decoding.cached_model import CachedModel
from taskspec.decoding.sampling import probabilities, sample
from taskspec.interfaces import Sampling


@torch.inference_mode()
def write_texts(
    model: CachedModel,
    vocabulary: Tensor | None,
    prompts: Sequence[Sequence[int]],
    counts: Sequence[int],
    sampling: Sampling,
    generator: Generator,
    end_tokens: Collection[int] = (),
) -> list[list[int]]:
    """Continue N prompts of different lengths together, in rows 0..N-1 of the model.

    Args:
        model: The model with its cache, empty.
        vocabulary: int64 [Vd] token ids of the columns of its logits; None for all.
        prompts: Token ids, none empty.
        counts: Most tokens to write after each prompt, at least 1.
        sampling: The logits processors.
        generator: The only source of randomness, on the CPU.
        end_tokens: A text ends after the first of these.

    Returns:
        Token ids of N texts; what a row says does not depend on when others end.
    """
    noise = torch.rand(len(prompts), max(counts), generator=generator)
    texts: list[list[int]] = [[] for _ in prompts]
    rows, pending = list(range(len(prompts))), [list(prompt) for prompt in prompts]
    for place in range(max(counts)):
        lengths = [len(pending[row]) for row in rows]
        width = max(lengths)
        padded = [pending[row] + [0] * (width - len(pending[row])) for row in rows]
        hidden = model.forward(rows, torch.tensor(padded, device=model.device), lengths)
        last = hidden[torch.arange(len(rows)), torch.tensor(lengths) - 1]
        probs = probabilities(model.head(last), sampling)
        choice = sample(probs, noise[rows, place].to(probs.device))
        if vocabulary is not None:
            choice = vocabulary.to(choice.device)[choice]
        for row, token in zip(rows, choice.tolist(), strict=True):
            texts[row].append(token)
            pending[row] = [token]
        rows = [r for r in rows if len(texts[r]) < counts[r] and texts[r][-1] not in end_tokens]
        if not rows:
            break
    return texts
