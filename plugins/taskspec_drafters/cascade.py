"""Ask several drafts in turn: the first that is confident answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from taskspec.errors import ModelError
from taskspec.interfaces import DraftCorpus, Drafter, Member, Proposal, Sampling, Target, option


@dataclass(frozen=True)
class CascadeOptions:
    """Options of `cascade`."""

    drafts: list[str] = option(
        [], "Names of drafts of the pool, in the order asked; the last answers in any case."
    )
    min_tokens: int = option(2, "A draft that proposes fewer tokens is not confident.")

    def __post_init__(self) -> None:
        if self.min_tokens < 1:
            raise ValueError("min_tokens must be at least 1")
        if len(set(self.drafts)) < len(self.drafts):
            raise ValueError("drafts must not name a draft twice")


class Cascade(Drafter):
    """Hybrid drafting: copying where the text repeats, a model where it is new.

    In each step the first draft answers that proposes at least `min_tokens` tokens (or all that
    were asked for), or any that it sampled. Cheap drafts that propose only what they trust,
    `suffix` and `prompt-lookup`, come first and a model last, as in Arctic Inference's hybrid
    speculation (arXiv 2411.04975, section 4). Which draft answers depends on decided text alone,
    never on what a sampled token turned out to be, so verification stays exact.
    """

    name = "cascade"
    Options = CascadeOptions

    def __init__(self, options: CascadeOptions | None = None) -> None:
        super().__init__(options)
        self._members: Sequence[Member] = ()
        self._sampled: set[int] = set()

    @classmethod
    def check(cls, target: Target, options: CascadeOptions) -> None:
        """There is something to ask.

        Raises:
            ModelError: When no drafts are named.
        """
        if not options.drafts:
            raise ModelError(
                "cascade: no drafts are named, so it would never draft; name drafts of the pool in "
                "its option drafts, such as [lookup, small]"
            )

    @classmethod
    def members(cls, options: CascadeOptions) -> tuple[str, ...]:
        """The drafts that are asked."""
        return tuple(options.drafts)

    @classmethod
    def build(cls, target: Target, corpus: DraftCorpus, options: CascadeOptions) -> Self:
        """Nothing is learnt here."""
        return cls(options)

    @classmethod
    def load(cls, folder: Path, target: Target, options: CascadeOptions) -> Self:
        """Nothing is stored."""
        return cls(options)

    def save(self, folder: Path) -> None:
        """Nothing to store."""

    def join(self, members: Sequence[Member]) -> None:
        """Take in the drafts.

        Raises:
            ModelError: When two of them want different states of the target.
        """
        wanted = {member.drafter.hidden_layers for member in members} - {()}
        if len(wanted) > 1:
            raise ModelError(
                f"cascade: its drafts want different states of the target {sorted(wanted)}; "
                "leave one of them out"
            )
        self.hidden_layers = wanted.pop() if wanted else ()
        self._members = tuple(members)

    def start(
        self,
        row: int,
        prompt: Sequence[int],
        sampling: Sampling,
        hidden: Tensor | None = None,
        adapter: str | None = None,
    ) -> None:
        """Start every draft on the prompt."""
        if not sampling.greedy:
            self._sampled.add(row)
        for member in self._members:
            own = hidden if member.drafter.hidden_layers else None
            member.drafter.start(row, prompt, sampling, own, member.adapter)

    def propose(self, rows: Sequence[int], k: Sequence[int], noise: Tensor) -> Proposal:
        """Ask each draft for the rows that none before it was confident about."""
        open_rows = list(range(len(rows)))
        answers: dict[int, tuple[Proposal, int]] = {}
        for member in self._members:
            # Drafts that are not asked take part with lengths of 0, so that rows keep places.
            asked = [k[index] if index in open_rows else 0 for index in range(len(rows))]
            proposal = member.drafter.propose(rows, asked, noise[:, : max(asked, default=0)])
            last = member is self._members[-1]
            for index in list(open_rows):
                proposed = int(proposal.lengths[index])
                # How far a draft came after a token that it sampled says what that token was:
                # asking another one then would be asking again for a better draw.
                drawn = proposal.probs is not None and rows[index] in self._sampled
                enough = 1 if drawn else min(self.options.min_tokens, k[index])
                if last or proposed >= enough:
                    open_rows.remove(index)
                    answers[index] = (proposal, index)
        return _merge([answers.get(index) for index in range(len(rows))])

    def commit(
        self, rows: Sequence[int], tokens: Tensor, counts: Tensor, hidden: Tensor | None = None
    ) -> None:
        """Tell every draft."""
        for member in self._members:
            own = hidden if member.drafter.hidden_layers else None
            member.drafter.commit(rows, tokens, counts, own)

    def stop(self, row: int) -> None:
        """Let every draft forget the row."""
        self._sampled.discard(row)
        for member in self._members:
            member.drafter.stop(row)


def _merge(answers: Sequence[tuple[Proposal, int] | None]) -> Proposal:
    """One proposal from rows of several; rows without an answer propose nothing."""
    lengths = torch.tensor([int(a[0].lengths[a[1]]) if a is not None else 0 for a in answers])
    width = int(lengths.max()) if len(answers) else 0
    tokens = torch.zeros(len(answers), width, dtype=torch.int64)
    for index, answer in enumerate(answers):
        if answer is not None and lengths[index]:
            drafted = answer[0].tokens[answer[1], : lengths[index]]
            tokens[index, : lengths[index]] = drafted.to(tokens.device)
    sampled = [a for a, count in zip(answers, lengths, strict=True) if a and a[0].probs is not None]
    if not sampled:
        return Proposal(tokens, lengths)
    columns = _columns([a[0].vocabulary for a in sampled], tokens, lengths)
    tables = [a[0].probs for a in sampled if a[0].probs is not None]
    # Columns are all of the target's where one of the tables has them all, the widest.
    size = max(table.shape[-1] for table in tables) if columns is None else len(columns)
    probs = tables[0].new_zeros(len(answers), width, size)
    for index, answer in enumerate(answers):
        count = int(lengths[index])
        if answer is None or not count:
            continue
        proposal, place = answer
        if proposal.probs is None:
            drafted = tokens[index, :count]
            at = drafted if columns is None else torch.searchsorted(columns, drafted)
            probs[index, torch.arange(count), at] = 1.0
        else:
            own = torch.arange(size) if proposal.vocabulary is None else proposal.vocabulary
            if columns is not None:
                own = torch.searchsorted(columns, own.to(columns.device))
            probs[index, :count, own] = proposal.probs[place, :count]
    return Proposal(tokens, lengths, probs, columns)


def _columns(
    vocabularies: Sequence[Tensor | None], tokens: Tensor, lengths: Tensor
) -> Tensor | None:
    """Ascending target ids that any row may need a probability for; None for all."""
    kept = [each for each in vocabularies if each is not None]
    if len(kept) < len(vocabularies):
        return None
    drafted = torch.arange(tokens.shape[1]) < lengths[:, None]
    columns: Tensor = torch.unique(torch.cat([*(each.cpu() for each in kept), tokens[drafted]]))
    return columns
