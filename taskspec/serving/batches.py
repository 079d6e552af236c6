"""Many prompts answered together, each with its task's draft."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace

from taskspec.corpus.examples import Example
from taskspec.decoding.records import Generation
from taskspec.interfaces import Sampling
from taskspec.serving.bundle import Answer, Bundle
from taskspec.serving.calibration import measure_pace
from taskspec.serving.correcting import correction_config, measure_correction
from taskspec.serving.remembering import answer_memory

_TYPICAL_TOKENS = 32


def answer_all(
    bundle: Bundle,
    examples: Sequence[Example],
    max_new_tokens: int,
    batch_size: int,
    sampling: Sampling | None = None,
    seed: int = 0,
    on_done: Callable[[str, Answer], None] | None = None,
) -> list[Answer]:
    """Answer prompts, `batch_size` at a time; a new one is admitted whenever one ends.

    How far drafts reach is fitted to the batch: its costs are measured first, within seconds.
    With the recipe's `decode.correction`, drafts that fall short are replaced as well; with
    `decode.remember`, drafts copy from these answers, too.

    Args:
        bundle: A loaded bundle.
        examples: The prompts.
        max_new_tokens: Answers are cut there.
        batch_size: Prompts decoded together.
        sampling: Logits processors; None takes the recipe's.
        seed: Each prompt's generator is seeded from this and the prompt's id.
        on_done: Called with a prompt's id and answer as soon as it is done.

    Returns:
        One answer per prompt, in their order.

    Raises:
        DecodingError: For prompts that cannot be decoded as asked; nothing is decoded.
    """
    started = time.perf_counter()
    asked = [
        bundle.request(each.id, each.messages, max_new_tokens, sampling, seed + _number(each.id))
        for each in examples
    ]
    routes = {request.id: route for request, route in asked}
    answers: dict[str, Answer] = {}

    def note(done: Generation) -> None:
        text = bundle.target.tokenizer.decode(done.tokens, skip_special_tokens=True)
        seconds = time.perf_counter() - started
        answers[done.id] = Answer(text, routes[done.id], done, seconds)
        if on_done is not None:
            on_done(done.id, answers[done.id])

    requests = [request for request, _ in asked]
    if not requests:
        return []
    bundle.engine.check(requests)
    batch_size = min(batch_size, len(requests))
    pace = correction = None
    typical = min(requests, key=lambda request: len(request.prompt))
    typical = replace(typical, draft=None, max_new_tokens=min(max_new_tokens, _TYPICAL_TOKENS))
    if correction_config(bundle).use:
        correction = measure_correction(bundle, typical, batch_size)
    elif batch_size > 1 and any(request.draft is not None for request in requests):
        pace = measure_pace(bundle, typical, batch_size)
    memory = answer_memory(bundle)
    bundle.engine.generate(
        requests, batch_size, on_finish=note, pace=pace, correction=correction, memory=memory
    )
    return [answers[each.id] for each in examples]


def _number(name: str) -> int:
    return zlib.crc32(name.encode())
