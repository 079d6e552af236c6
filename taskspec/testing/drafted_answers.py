"""Checks of drafters at work in the engine: whatever they propose, answers are the target's."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from taskspec.decoding.engine import Engine
from taskspec.decoding.records import DraftChoice, Request
from taskspec.decoding.sampling import probabilities_per_row, sample
from taskspec.interfaces import Sampling, Verdict, Verifier
from taskspec.testing.check import check, require
from taskspec.testing.exercises import exercise_of
from taskspec.testing.toy_target import answer, toy_prompts, toy_target, without_end
from taskspec.testing.toy_verification import p_value


class _Greedy(Verifier):
    """The agreeing prefix; the kit's own, so that a drafter is judged alone."""

    name = "kit-greedy"

    def verify(
        self,
        tokens: Tensor,
        lengths: Tensor,
        draft_probs: Tensor | None,
        target_probs: Tensor,
        noise: Tensor,
    ) -> Verdict:
        best = target_probs.argmax(-1)
        drafted = torch.arange(tokens.shape[1]) < lengths[:, None]
        accepted = ((tokens == best[:, :-1]) & drafted).long().cumprod(1).sum(1)
        return Verdict(accepted, best.gather(1, accepted[:, None])[:, 0])


@check("drafter")
def check_engine_output_is_the_targets(drafter: Any) -> str:
    """In the engine, greedy answers equal plain decoding, for ragged batches and ends.

    Rows start and end at different times; answers end by the end token or the length limit.
    """
    drafted = accepted = 0
    for target in (toy_target(), without_end()):
        engine = Engine(target, _Greedy(), {"mine": exercise_of(drafter).prepare(drafter)})
        prompts = toy_prompts(7, seed=2)
        for k in (1, 4):
            requests = [
                Request(str(i), tuple(p), 5 + 3 * i, draft=DraftChoice("mine", k))
                for i, p in enumerate(prompts)
            ]
            for request, got in zip(requests, engine.generate(requests, 3), strict=True):
                expected = answer(target, list(request.prompt), request.max_new_tokens)
                ends = [i for i, token in enumerate(expected) if token in target.eos_token_ids]
                expected = expected[: ends[0] + 1] if ends else expected
                require(
                    list(got.tokens) == expected,
                    f"request {request.id}: {list(got.tokens)} instead of {expected}",
                )
                drafted += sum(step.drafted for step in got.steps)
                accepted += sum(step.accepted for step in got.steps)
    return f"{drafted} tokens drafted, {accepted} accepted, on a random target"


@check("drafter")
def check_sampled_answers_have_the_targets_distribution(drafter: Any) -> None:
    """Drafts verified by exact rejection give the target's distribution for the next two tokens.

    1,500 requests with seeds of their own; the pair of tokens after the first is counted.
    """
    target, count = without_end(), 1500
    prompt = tuple(toy_prompts(1)[0])
    sampling = Sampling(0.7, top_k=4)
    engine = Engine(target, _Rejection(), {"mine": exercise_of(drafter).prepare(drafter)})
    requests = [
        Request(str(i), prompt, 3, sampling, seed=i, draft=DraftChoice("mine", 2))
        for i in range(count)
    ]
    texts = torch.tensor([each.tokens for each in engine.generate(requests, 64)])
    p = p_value(texts[:, 0], _after(target, list(prompt), sampling))
    require(p > 1e-7, f"the first token does not have the target's distribution (p = {p:.1e})")
    first = int(texts[:, 0].mode().values)
    chosen = texts[texts[:, 0] == first]
    p = p_value(chosen[:, 1], _after(target, [*prompt, first], sampling))
    require(p > 1e-7, f"the token after {first} is not distributed as the target's (p = {p:.1e})")


@torch.inference_mode()
def _after(target: Any, text: list[int], sampling: Sampling) -> Tensor:
    logits = target.model(torch.tensor([text])).logits[:, -1:]
    return probabilities_per_row(logits, [sampling])[0, 0]


class _Rejection(Verifier):
    """Exact rejection, written for clarity; the kit's own."""

    name = "kit-rejection"

    def verify(
        self,
        tokens: Tensor,
        lengths: Tensor,
        draft_probs: Tensor | None,
        target_probs: Tensor,
        noise: Tensor,
    ) -> Verdict:
        accepted = torch.zeros(len(tokens), dtype=torch.int64)
        following = torch.zeros(len(tokens), dtype=torch.int64)
        one_hot = torch.nn.functional.one_hot(tokens, target_probs.shape[-1]).double()
        q = one_hot if draft_probs is None else draft_probs.double()
        p = target_probs.double()
        for row, length in enumerate(lengths.tolist()):
            place = 0
            while place < length:
                token = tokens[row, place]
                if not noise[row, place] * q[row, place, token] < p[row, place, token]:
                    break
                place += 1
            final = p[row, place]
            if place < length:
                residual = (final - q[row, place]).clamp(min=0)
                final = residual if residual.sum() > 0 else final
            accepted[row], following[row] = place, sample(final[None], noise[row, -1:])[0]
        return Verdict(accepted, following)
