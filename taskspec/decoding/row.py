"""One request's state while it is decoded."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from taskspec.decoding.records import DraftChoice, Generation, Request, StepRecord

if TYPE_CHECKING:
    from collections.abc import Mapping, Set

    from taskspec.decoding.correction import Pilot
    from taskspec.interfaces import Drafter


@dataclass
class Row:
    """A request at work in slot `slot` of the target's cache.

    The cache holds the prompt and all answer tokens but the last, which is the next pass's
    first input. `choice` is the draft that serves it now and `reach` how far it drafts, at first as
    requested; a `pilot` changes both. `drafting` says that the draft has started on the row.
    """

    request: Request
    slot: int
    eos: Set[int]
    context: int
    generator: torch.Generator = field(init=False)
    tokens: list[int] = field(default_factory=list)
    steps: list[StepRecord] = field(default_factory=list)
    hidden: Tensor | None = None
    log_normalizer: Tensor | None = None
    kept: int = 0
    finish: str | None = None
    drafting: bool = False
    choice: DraftChoice | None = field(init=False)
    reach: int = field(init=False)
    pilot: Pilot | None = None
    served: dict[DraftChoice | None, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.generator = torch.Generator().manual_seed(self.request.seed)
        self.choice = self.request.draft
        self.reach = 0 if self.choice is None else self.choice.draft_length

    @property
    def cached(self) -> int:
        """Positions the target's cache must hold for this row."""
        return len(self.request.prompt) + max(len(self.tokens) - 1, 0)

    @property
    def draft_length(self) -> int:
        """Tokens worth drafting now: one less than may still be emitted."""
        if self.choice is None:
            return 0
        return max(0, min(self.reach, self.room - 1))

    @property
    def room(self) -> int:
        """Tokens that may still be emitted."""
        return min(
            self.request.max_new_tokens - len(self.tokens),
            self.context - len(self.request.prompt) - len(self.tokens),
        )

    @property
    def text(self) -> tuple[int, ...]:
        """Prompt and answer so far."""
        return (*self.request.prompt, *self.tokens)

    def record(self, step: StepRecord) -> None:
        """Note a step, and which draft served it."""
        self.steps.append(step)
        used = self.choice if self.reach else None
        self.served[used] = self.served.get(used, 0) + 1

    def start(self, drafters: Mapping[str, Drafter], hidden: Tensor | None = None) -> None:
        """Let the draft chosen begin on prompt and answer so far.

        Args:
            drafters: The pool.
            hidden: The target's states of all but the last token, for a drafter that wants them.
        """
        if self.choice is not None:
            drafter, text = drafters[self.choice.draft], self.text
            drafter.start(self.slot, text, self.request.sampling, hidden, self.choice.adapter)
            self.drafting = True

    def stop(self, drafters: Mapping[str, Drafter]) -> None:
        """Let the draft chosen forget the row."""
        if self.drafting and self.choice is not None:
            drafters[self.choice.draft].stop(self.slot)
        self.drafting = False

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

    def keep(self, hidden: Tensor, log_normalizer: Tensor) -> None:
        """Keep the target's states [n, H] and normalizers [n] behind the next n answer tokens.

        Room for all is made at first: pieces kept step by step would lie between the large blocks
        that each step takes and frees, and the process would grow with every step.
        """
        if self.hidden is None or self.log_normalizer is None:
            room = self.room + len(self.tokens)
            self.hidden = hidden.new_empty(room, hidden.shape[-1])
            self.log_normalizer = log_normalizer.new_empty(room)
        places = slice(self.kept, self.kept + len(hidden))
        self.hidden[places], self.log_normalizer[places] = hidden, log_normalizer
        self.kept = places.stop

    def result(self) -> Generation:
        """The finished answer."""
        assert self.finish is not None
        hidden, log_normalizer = self.hidden, self.log_normalizer
        return Generation(
            id=self.request.id,
            tokens=tuple(self.tokens),
            finish=self.finish,
            steps=tuple(self.steps),
            served=self.served,
            hidden=None if hidden is None else hidden[: self.kept].clone(),
            log_normalizer=None if log_normalizer is None else log_normalizer[: self.kept].clone(),
        )
