"""What earlier answers showed of drafts, from which correction begins the next ones.

A promise was measured on a task's own prompts. Where others are sent to the same draft, as those of
a task never seen, one answer is too short to tell which draft suits them; many are not.
"""

from __future__ import annotations

from taskspec.decoding.cost import AcceptanceCurve
from taskspec.decoding.prices import Estimate, Prices, Way

_REMEMBERED = 0.998
"""What is still held true of a draft a token later: what people ask changes, but slowly."""


class Experience:
    """Of every draft, what it brought to prompts that were sent to the same draft as these.

    It belongs to one `Correction`, whose ways and prices it knows.

    Attributes:
        answers: Answers that began from it.
    """

    def __init__(self) -> None:
        self._estimates: dict[tuple[Way | None, Way], Estimate] = {}
        self.answers = 0

    def estimate(
        self, own: Way | None, way: Way, promise: AcceptanceCurve, prices: Prices
    ) -> Estimate:
        """The estimate that all answers share.

        Args:
            own: The draft that a request asks for; None for plain decoding.
            way: The draft to know of.
            promise: What it brings, as long as nothing was seen.
            prices: What it costs.
        """
        if (own, way) not in self._estimates:
            self._estimates[own, way] = Estimate(way, promise, prices, _REMEMBERED)
        return self._estimates[own, way]

    def forget(self) -> None:
        """Let promises be all that is known."""
        self._estimates.clear()
        self.answers = 0
