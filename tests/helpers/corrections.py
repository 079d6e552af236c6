"""Ways of drafting and corrections over them, for tests of in-flight correction."""

from __future__ import annotations

from typing import Any

from taskspec.decoding.correction import Correction
from taskspec.decoding.cost import AcceptanceCurve, TargetCost
from taskspec.decoding.prices import Prices, Way
from taskspec.decoding.records import DraftChoice
from taskspec.interfaces import Drafter

GOOD = AcceptanceCurve((1.8, 2.4, 2.8, 3.0), (0, 0, 0, 0, 1))
PASSES = TargetCost((1.0, 1.05, 1.1, 1.15, 1.2))


class Model(Drafter):
    """A draft of the tests: text-free state, nothing but what `drafted` says."""

    name = "model"

    def __init__(self, rows: dict[int, list[int]] | None = None) -> None:
        super().__init__()
        self.rows: dict[int, list[int]] = {} if rows is None else rows

    @classmethod
    def build(cls, target, corpus, options):
        return cls()

    @classmethod
    def load(cls, folder, target, options):
        return cls()

    def save(self, folder):
        pass

    def start(self, row, prompt, sampling, hidden=None, adapter=None):
        assert row not in self.rows, "started twice"
        self.rows[row] = list(prompt)

    def propose(self, rows, k, noise):
        raise NotImplementedError

    def commit(self, rows, tokens, counts, hidden=None):
        for row, new, count in zip(rows, tokens.tolist(), counts.tolist(), strict=True):
            self.rows[row] += new[:count]

    def stop(self, row):
        del self.rows[row]


def way(name: str, seconds: float = 0.1, **changes: Any) -> Way:
    return Way(DraftChoice(name, 4), GOOD, seconds, **changes)


def correction(*ways: Way, share: float = 0.05, grace: float = 2.0) -> Correction:
    return Correction(Prices(PASSES, 0.1), ways, share, grace)
