"""Texts to measure training speed on: real prompts, and answers whose words do not matter."""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch

from taskspec.corpus.answers import StoredAnswer
from taskspec.corpus.examples import Example
from taskspec.models.loading import LanguageModel


def bench_answers(
    target: LanguageModel, examples: Sequence[Example], count: int, seed: int
) -> list[StoredAnswer]:
    """Prompts of a corpus with answers of 8 to 64 random tokens and random target states.

    How fast a training step is depends on lengths and sizes, not on what texts say; so nothing
    need be collected first. What a draft learns here is of no use.

    Args:
        target: Its chat template makes the prompts.
        examples: Where prompts are drawn from.
        count: Answers wanted; prompts repeat when there are fewer.
        seed: Source of the draw.
    """
    draw = random.Random(seed)
    generator = torch.Generator().manual_seed(seed)
    chosen = draw.choices(examples, k=count)
    answers = []
    for number, example in enumerate(chosen):
        length = draw.randint(8, 64)
        ids = torch.randint(0, target.vocabulary_size, (length,), generator=generator)
        hidden = torch.randn(length, target.hidden_size, generator=generator).to(target.dtype)
        normalizer = target.head(hidden.to(target.device)).float().logsumexp(-1).detach().cpu()
        prompt = target.chat_ids(example.messages, None)
        answers.append(
            StoredAnswer(str(number), prompt, tuple(ids.tolist()), True, hidden, normalizer)
        )
    return answers
