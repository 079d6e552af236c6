"""One request's state while it is decoded."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from taskspec.decoding.records import Generation, Request, StepRecord

if TYPE_CHECKING:
    from collections.abc import Set


@dataclass
class Row:
    """A request at work in slot `slot` of the target's cache.

    The cache holds the prompt and all answer tokens but the last, which is the next pass's
    first input. `drafting` says that a drafter has started on it.
    """

    request: Request
    slot: int
    eos: Set[int]
    context: int
    generator: torch.Generator = field(init=False)
    tokens: list[int] = field(default_factory=list)
    steps: list[StepRecord] = field(default_factory=list)
    hidden: list[Tensor] = field(default_factory=list)
    log_normalizer: list[Tensor] = field(default_factory=list)
    finish: str | None = None
    drafting: bool = False

    def __post_init__(self) -> None:
        self.generator = torch.Generator().manual_seed(self.request.seed)

    @property
    def cached(self) -> int:
        """Positions the target's cache must hold for this row."""
        return len(self.request.prompt) + max(len(self.tokens) - 1, 0)

    @property
    def draft_length(self) -> int:
        """Tokens worth drafting now: one less than may still be emitted."""
        if self.request.draft is None:
            return 0
        room = min(
            self.request.max_new_tokens - len(self.tokens),
            self.context - len(self.request.prompt) - len(self.tokens),
        )
        return max(0, min(self.request.draft.draft_length, room - 1))

    def noise(self, count: int) -> Tensor:
        """Uniform noise float32 [count] from the request's own generator; zeros when greedy."""
        if self.request.sampling.greedy:
            return torch.zeros(count)
        return torch.rand(count, generator=self.generator)

    def emit(self, tokens: list[int]) -> int:
        """Append tokens up to the end token, the length limit or the context's end.

        Returns:
            How many were appended; `finish` is set when the row is done.
        """
        for index, token in enumerate(tokens):
            self.tokens.append(token)
            if token in self.eos and not self.request.ignore_eos:
                self.finish = "eos"
            elif len(self.tokens) >= self.request.max_new_tokens:
                self.finish = "length"
            elif len(self.request.prompt) + len(self.tokens) >= self.context:
                self.finish = "context"
            if self.finish is not None:
                return index + 1
        return len(tokens)

    def result(self) -> Generation:
        """The finished answer."""
        assert self.finish is not None
        kept = bool(self.hidden)
        return Generation(
            id=self.request.id,
            tokens=tuple(self.tokens),
            finish=self.finish,
            steps=tuple(self.steps),
            hidden=torch.cat(self.hidden)[: len(self.tokens)] if kept else None,
            log_normalizer=torch.cat(self.log_normalizer)[: len(self.tokens)] if kept else None,
        )
