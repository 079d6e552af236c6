"""Which of the drafts that were timed a task gets."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from taskspec.evaluation.statistics import Speeds
from taskspec.pipeline.choosing import Comparison, TimedDraft, within_memory
from taskspec.recipe.assignment import AssignConfig

PROMPTS = 8


def speeds(speedups: float | Sequence[float], tokens: int | Sequence[int] = 48) -> Speeds:
    """Timings of prompts that plain decoding takes a second a token for."""
    each = np.broadcast_to(np.asarray(tokens, dtype=np.float64), PROMPTS)
    return Speeds(each, each / np.broadcast_to(speedups, PROMPTS))


def draft(name: str, memory: float, speedups: float | Sequence[float], **kw: object) -> TimedDraft:
    return TimedDraft(name, memory, speeds(speedups, **kw))  # type: ignore[arg-type]


def comparison(objective: str = "speedup", tokens: int | Sequence[int] = 48) -> Comparison:
    return Comparison(speeds(1.0, tokens), AssignConfig(objective=objective, margin=1.02))


def name_of(found: TimedDraft | None) -> str | None:
    return None if found is None else found.name


def test_the_clearly_fastest_draft_wins_whatever_it_takes() -> None:
    drafts = [draft("lookup", 0, 1.2), draft("large", 90, 1.5)]
    assert name_of(comparison().best(drafts)) == "large"


def test_in_doubt_the_cheaper_draft_wins() -> None:
    noisy = [1.6, 1.1, 1.5, 1.2, 1.7, 1.1, 1.4, 1.2]
    other = [1.1, 1.6, 1.2, 1.5, 1.1, 1.6, 1.2, 1.35]
    drafts = [draft("own", 40, noisy), draft("shared", 8, other)]
    assert name_of(comparison().best(drafts)) == "shared"


def test_a_difference_on_every_prompt_is_no_doubt_though_both_vary_widely() -> None:
    small = np.array([1.1, 2.0, 1.2, 1.9, 1.1, 2.1, 1.3, 1.6])
    drafts = [draft("small", 8, small), draft("large", 40, small * 1.1)]
    assert name_of(comparison().best(drafts)) == "large"


@pytest.mark.parametrize("speedups", [0.9, 1.01, [2.0] + [0.9] * 7])
def test_what_may_be_no_faster_than_plain_decoding_is_not_used(speedups: object) -> None:
    assert comparison().best([draft("lookup", 0, speedups)]) is None  # type: ignore[arg-type]


def test_a_few_kilobytes_are_no_reason_to_be_slower() -> None:
    one, other = [1.9, 2.1] * 4, [2.2, 2.0] * 4
    drafts = [draft("own", 0.1, one), draft("shared", 0.9, other)]
    assert name_of(comparison().best(drafts)) == "shared"
    drafts = [draft("own", 0.1, one), draft("shared", 1.2, other)]
    assert name_of(comparison().best(drafts)) == "own"


def test_memory_takes_the_smallest_that_keeps_its_share_of_the_speed() -> None:
    drafts = [draft("tiny", 1, 1.3), draft("middle", 9, 1.45), draft("large", 90, 1.5)]
    assert name_of(comparison().best(drafts)) == "large"
    assert name_of(comparison("memory").best(drafts)) == "middle"


def test_latency_counts_short_answers_as_much_as_long_ones() -> None:
    tokens = [400, *[8] * 7]
    long = draft("long", 1, [2.0, *[1.1] * 7], tokens=tokens)
    short = draft("short", 2, [1.3, *[1.6] * 7], tokens=tokens)
    assert name_of(comparison("latency", tokens).best([long, short])) == "short"
    by_tokens = comparison("speedup", tokens)
    assert by_tokens.speedup(long.speeds).value > by_tokens.speedup(short.speeds).value


def test_a_limit_gives_up_what_costs_least_speed() -> None:
    drafts = [
        [draft("a", 50, 2.0), draft("lookup", 0, 1.2)],
        [draft("b", 50, 1.4), draft("lookup", 0, 1.3)],
    ]
    sizes = {name: {name: 50.0} for name in ("a", "b", "single")} | {"lookup": {}}
    both = [comparison(), comparison()]
    free, fallback = within_memory(both, drafts, sizes, "single", None)
    assert ([name_of(each) for each in free], fallback) == (["a", "b"], "single")
    tight, fallback = within_memory(both, drafts, sizes, "single", 100)
    assert ([name_of(each) for each in tight], fallback) == (["a", "b"], None)
    tighter, _ = within_memory(both, drafts, sizes, "single", 60)
    assert [name_of(each) for each in tighter] == ["a", "lookup"]
    nothing, _ = within_memory(both, [[d[0]] for d in drafts], sizes, None, 0)
    assert nothing == [None, None]


def test_what_several_drafts_load_counts_once() -> None:
    drafts = [[draft("a", 50, 2.0)], [draft("b", 50, 1.4)]]
    parts = {"a": {"base": 50.0, "a": 1.0}, "b": {"base": 50.0, "b": 1.0}}
    found, _ = within_memory([comparison(), comparison()], drafts, parts, None, 52)
    assert [name_of(each) for each in found] == ["a", "b"]
