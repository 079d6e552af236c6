"""Ways of drafting and corrections over them, for tests of in-flight correction."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch

from taskspec.decoding.correction import Correction
from taskspec.decoding.cost import AcceptanceCurve, TargetCost
from taskspec.decoding.prices import Prices, Way
from taskspec.decoding.records import DraftChoice, Request, StepRecord
from taskspec.decoding.row import Row
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


def row_of(
    drafters: dict[str, Drafter], own: str | None, steering: Correction, started: bool = True
) -> Row:
    choice = None if own is None else DraftChoice(own, 3)
    row = Row(Request("0", (5, 6, 7), 400, seed=3, draft=choice), 0, frozenset(), 1000)
    row.pilot = steering.pilot(row, drafters)
    row.emit([8])
    if started:
        row.start(drafters)
    return row


def play(row: Row, outcomes: Sequence[tuple[int, int]], tokens: Sequence[int]) -> None:
    """Steps in which so many tokens are drafted of those asked, and so many accepted of these."""
    supply = itertools.cycle(tokens)
    for fewer, refused in outcomes:
        assert row.pilot is not None
        row.pilot.steer()
        drafted = max(0, row.draft_length - fewer)
        accepted = max(0, drafted - refused)
        new = [next(supply) for _ in range(accepted + 1)]
        count = row.emit(new)
        row.record(StepRecord(drafted, accepted, count))
        if row.choice is not None and row.drafting:
            row.pilot.drafters[row.choice.draft].commit(
                [row.slot], torch.tensor([new]), torch.tensor([count])
            )
        row.pilot.learn()
        for drafter in row.pilot.drafters.values():
            if isinstance(drafter, Model) and row.slot in drafter.rows:
                read = drafter.rows[row.slot]
                assert read == list(row.text)[: len(read)], "a draft's state is out of step"
                serves = row.drafting and row.pilot.drafters.get(row.choice.draft) is drafter
                assert not serves or read == list(row.text), "a draft has not read all"


def play_within_budget(
    row: Row, outcomes: Sequence[tuple[int, int]], tokens: Sequence[int]
) -> None:
    """Play steps, after each of which the predicted cost must lie within the budget."""
    pilot = row.pilot
    assert pilot is not None
    share, grace = pilot.correction.share, pilot.correction.grace
    for outcome in outcomes:
        play(row, [outcome], tokens)
        assert pilot.spent <= (1 + share) * pilot.earned + grace + 1e-9
