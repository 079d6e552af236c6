"""What a search tried, what came of it and what it cost; the stages after it read this."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from taskspec.pipeline.artifacts import read_json
from taskspec.pipeline.halving import GOES_ON

SEARCH = "search.json"
TRAINED, AT_HAND = "trained to the end", "needs no training"


@dataclass(frozen=True)
class Trial:
    """One draft on one task in one round.

    Attributes:
        label: The task's.
        draft: Its name in the pool.
        verdict: What became of it after the round.
        tokens: Answer tokens that it was trained on in this round.
        seconds: How long that took.
        draft_length: The length with the best promise; None when it was not measured.
        block_efficiency: tau there, on validation prompts.
        predicted: Speed-up that the cost model promises there.
        ceiling: The same if everything it drafts were accepted.
    """

    label: int
    draft: str
    verdict: str
    tokens: int = 0
    seconds: float = 0.0
    draft_length: int | None = None
    block_efficiency: float | None = None
    predicted: float | None = None
    ceiling: float | None = None


@dataclass(frozen=True)
class Round:
    """One round of a search.

    Attributes:
        trials: Every draft that took part, task by task.
        measuring: Seconds that measuring took.
    """

    trials: tuple[Trial, ...]
    measuring: float = 0.0


@dataclass(frozen=True)
class SearchRecord:
    """A search.

    Attributes:
        exhaustive: Answer tokens that training every draft to the end would take, on the tasks.
        rounds: In their order; in the last one nothing is measured.
    """

    exhaustive: int
    rounds: tuple[Round, ...]

    @property
    def trials(self) -> list[Trial]:
        """Those of all rounds."""
        return [trial for each in self.rounds for trial in each.trials]

    @property
    def tokens(self) -> int:
        """Answer tokens trained on."""
        return sum(trial.tokens for trial in self.trials)

    @property
    def seconds(self) -> float:
        """Time of training."""
        return sum(trial.seconds for trial in self.trials)

    @property
    def measuring(self) -> float:
        """Time of measuring."""
        return sum(each.measuring for each in self.rounds)

    def dropped(self, label: int) -> dict[str, int]:
        """The drafts that a task gave up, and after which round."""
        going = (GOES_ON, TRAINED, AT_HAND)
        return {
            trial.draft: number
            for number, each in enumerate(self.rounds, start=1)
            for trial in each.trials
            if trial.label == label and trial.verdict not in going
        }

    def leader(self, drafts: Sequence[str]) -> str:
        """Of some drafts, the one that promised most over the tasks that kept it."""
        last = {(t.draft, t.label): t.predicted for t in self.trials if t.predicted is not None}
        total = dict.fromkeys(drafts, 0.0)
        for (draft, label), promise in last.items():
            if draft in total and draft not in self.dropped(label):
                total[draft] += promise
        return max(total, key=lambda draft: total[draft])


def to_json(record: SearchRecord) -> dict[str, Any]:
    """The record as JSON-serialisable values."""
    return asdict(record)


def read_round(value: Mapping[str, Any]) -> Round:
    """A round, from JSON's values."""
    return Round(tuple(Trial(**each) for each in value["trials"]), value["measuring"])


def from_json(value: Mapping[str, Any]) -> SearchRecord:
    """A record, from JSON's values."""
    return SearchRecord(value["exhaustive"], tuple(read_round(each) for each in value["rounds"]))


def load_search(folder: Path) -> SearchRecord | None:
    """The record in the align stage's folder; None where every draft was trained to the end."""
    path = folder / SEARCH
    return from_json(read_json(path)) if path.is_file() else None
