"""What goes into the engine and what comes out of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from taskspec.interfaces.sampling import Sampling

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class DraftChoice:
    """Which draft serves a request, and how far ahead it drafts.

    Attributes:
        draft: Name of a drafter given to the engine.
        draft_length: Tokens drafted per step, at least 1.
        adapter: Adapter of that drafter, or None.
    """

    draft: str
    draft_length: int
    adapter: str | None = None


@dataclass(frozen=True)
class Request:
    """One prompt to answer.

    Attributes:
        id: Name of the request, unique within a call.
        prompt: Prompt token ids, at least one.
        max_new_tokens: The answer is cut there.
        sampling: Logits processors.
        seed: Seed of this request's own random generator; neither the batch nor the draft
            influences what it yields for plain decoding. Where drafting learns from other requests'
            answers (`own_noise`), those that sample get another one.
        draft: Draft and draft length; None decodes plainly.
        ignore_eos: Decode to `max_new_tokens` whatever comes, for measurements.
    """

    id: str
    prompt: tuple[int, ...]
    max_new_tokens: int
    sampling: Sampling = field(default_factory=Sampling)
    seed: int = 0
    draft: DraftChoice | None = None
    ignore_eos: bool = False


@dataclass(frozen=True)
class StepRecord:
    """One verification pass of one row.

    Attributes:
        drafted: Tokens drafted, k_t.
        accepted: Drafted tokens accepted, a_t, after cutting at EOS and length.
        emitted: Tokens emitted, e_t.
    """

    drafted: int
    accepted: int
    emitted: int


def first_tokens(steps: Iterable[StepRecord]) -> tuple[int, int]:
    """Steps that drafted, and those of them whose first drafted token stood.

    Their ratio is u_1 whatever the draft length, and the end of an answer takes nothing from it.
    """
    accepted = [step.accepted for step in steps if step.drafted]
    return len(accepted), sum(each > 0 for each in accepted)


@dataclass(frozen=True)
class Generation:
    """The answer to one request.

    Attributes:
        id: The request's id.
        tokens: Answer ids, the end token included when `finish` is `eos`.
        finish: `eos`, `length` (max_new_tokens), or `context` (the model's context is full).
        steps: One record per verification pass; the prefill's first token belongs to none.
        hidden: float [len(tokens), H], the target's final hidden state that predicted each
            token, when the engine was asked to keep it.
        log_normalizer: float32 [len(tokens)], log-sum-exp of the logits there, kept likewise.
        served: Steps that each draft served; None for those meant to be decoded plainly.
    """

    id: str
    tokens: tuple[int, ...]
    finish: str
    steps: tuple[StepRecord, ...]
    hidden: Tensor | None = None
    log_normalizer: Tensor | None = None
    served: Mapping[DraftChoice | None, int] = field(default_factory=dict)
