"""Successive halving: how far each round trains, and which drafts go on.

Karnin et al. 2013; Jamieson and Talwalkar 2016 (arXiv 1502.07943). Nothing here is measured.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from taskspec.recipe.alignment import SearchConfig

GOES_ON, OUTRANKED, OUT_OF_REACH = "goes on", "outranked", "out of reach"


@dataclass(frozen=True)
class Promise:
    """What the cost model says of a draft that is still learning a task.

    Attributes:
        predicted: Speed-up over plain decoding as it drafts now.
        ceiling: The same if everything it drafts were accepted.
    """

    predicted: float
    ceiling: float


def round_ends(config: SearchConfig) -> tuple[float, ...]:
    """Share of a task's tokens that its drafts have had at the end of each round; the last is 1."""
    return tuple(config.keep ** (config.rounds - 1 - number) for number in range(config.rounds))


def going_on(drafts: int, keep: float) -> int:
    """How many of a task's drafts go on after a round, at least one."""
    # Less a little, as 0.1 * 30 is more than 3.
    return max(1, math.ceil(keep * drafts - 1e-9))


def planned_share(drafts: int, config: SearchConfig) -> float:
    """Tokens of all rounds of a task, at most, over those of one draft trained to the end."""
    total, before = 0.0, 0.0
    for end in round_ends(config):
        total += drafts * (end - before)
        before, drafts = end, going_on(drafts, config.keep)
    return total


def verdicts(promises: Mapping[str, Promise], incumbent: float, keep: float) -> dict[str, str]:
    """What becomes of each draft after a round.

    A draft whose ceiling lies below the incumbent's promise cannot win, however long it trains.
    Of the others the best go on.

    Args:
        promises: Of a task's drafts that have come this far, by name.
        incumbent: The best promise there is for the task, whatever makes it.
        keep: Share of the drafts that goes on.

    Returns:
        `GOES_ON`, `OUTRANKED` or `OUT_OF_REACH`, by name.
    """
    reach = [n for n, p in promises.items() if max(p.ceiling, p.predicted) >= incumbent]
    ranked = sorted(reach, key=lambda name: -promises[name].predicted)
    kept = ranked[: going_on(len(promises), keep)]
    found = dict.fromkeys(promises, OUT_OF_REACH)
    return found | dict.fromkeys(reach, OUTRANKED) | dict.fromkeys(kept, GOES_ON)
