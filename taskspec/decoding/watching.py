"""Drafts that watch: what they would have drafted, held against the text as it is verified."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from taskspec.decoding.prices import Way
from taskspec.decoding.row import Row
from taskspec.interfaces import Drafter

_LENGTH = 4
"""Tokens of a proposal: what they show, they show of later ones, too."""
_NO_NOISE = torch.zeros(1, _LENGTH)


class Watch:
    """A draft that copies, following a row that another draft serves.

    A one-hot proposal stands with the probability that the target gives it, and equals the
    target's own token with the same: what agrees with the text counts as accepted.

    Args:
        row: The row.
        way: The draft.
        drafters: The pool.

    Attributes:
        length: Tokens that it proposes at a time.
    """

    def __init__(self, row: Row, way: Way, drafters: Mapping[str, Drafter]) -> None:
        self.row, self.way, self.drafter = row, way, drafters[way.choice.draft]
        self.length = min(_LENGTH, way.longest)
        # At first the row's own draft is not watched but used.
        self.started = False
        self._read = 0
        self._proposed: list[int] | None = None

    @property
    def waiting(self) -> bool:
        """Whether a proposal is not decided yet."""
        return self._proposed is not None

    def outcome(self) -> tuple[int, int] | None:
        """Tokens drafted and accepted of the last proposal, once the text has decided it."""
        if self._proposed is None:
            return None
        text = self.row.text[self._read :]
        stood = 0
        for one, other in zip(self._proposed, text, strict=False):
            if one != other:
                break
            stood += 1
        if stood == len(text) and stood < len(self._proposed):
            return None
        drafted, self._proposed = len(self._proposed), None
        return drafted, stood

    def propose(self) -> None:
        """Draft after the text as it stands."""
        self._catch_up()
        noise = _NO_NOISE[:, : self.length]
        proposal = self.drafter.propose([self.row.slot], [self.length], noise)
        self._proposed = proposal.tokens[0, : int(proposal.lengths[0])].tolist()

    def hand_over(self) -> None:
        """Serve the row from now on."""
        self._catch_up()
        self._proposed, self.started = None, False

    def take_back(self) -> None:
        """Watch after having served the row, whose text is known but for nothing."""
        self.started, self._read = True, len(self.row.text)

    def stop(self) -> None:
        """Forget the row, unless it is served."""
        if self.started:
            self.drafter.stop(self.row.slot)
        self.started = False

    def _catch_up(self) -> None:
        text, slot = self.row.text, self.row.slot
        if not self.started:
            self.drafter.start(slot, text, self.row.request.sampling, None, self.way.choice.adapter)
            self.started = True
        elif self._read < len(text):
            new = torch.tensor([text[self._read :]])
            self.drafter.commit([slot], new, torch.tensor([new.shape[1]]))
        self._read = len(text)
