"""A log held against a bundle: drift is seen, and chance is not taken for it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from taskspec.decoding.cost import AcceptanceCurve
from taskspec.evaluation.drift import Watch, watch
from taskspec.serving.answer_log import LoggedAnswer
from taskspec.serving.known import KnownPrompts
from taskspec.serving.routing import Assignment

FALLBACK = Assignment("fallback", "small@single", 2, None, ((20, 19), (20, 19)))
KNOWN = KnownPrompts(np.eye(2), np.zeros((1, 2)), np.zeros(1, int), 1.0, 199, 1)


def trials(rate: float, prompts: int, seed: int) -> tuple[tuple[int, int], ...]:
    """Tries and successes of prompts whose own rates scatter about one."""
    generator = np.random.default_rng(seed)
    own = generator.beta(12 * rate, 12 * (1 - rate), prompts)
    return tuple((20, int(generator.binomial(20, each))) for each in own)


def task(rate: float = 0.7, seed: int = 0, name: str = "code") -> Assignment:
    return Assignment(name, f"small@{name}", 4, None, trials(rate, 8, seed))


def answers(
    rate: float, count: int, seed: int, name: str = "code", **changes: Any
) -> list[LoggedAnswer]:
    return [
        LoggedAnswer(
            **{
                **{"time": 0.0, "assigned": name, "draft": f"small@{name}", "probability": 0.9},
                **{"distance": 0.5, "unknown": False, "temperature": 0.0, "tokens": 41},
                **{"passes": tries, "drafted": 4 * tries, "accepted": 2 * stood, "tries": tries},
                **{"stood": stood, "replaced": 0, **changes},
            }
        )
        for tries, stood in trials(rate, count, seed)
    ]


def look(tasks: list[Assignment], log: list[LoggedAnswer], **others: Any) -> Watch:
    return watch(tasks, FALLBACK, KNOWN, 0.0, log, **others)


def test_a_draft_that_does_worse_than_promised_has_drifted() -> None:
    found = look(
        [task(0.7, 1), task(0.6, 2, "math")],
        answers(0.3, 60, 3) + answers(0.6, 60, 4, "math"),
    )
    assert [each.drifted for each in found.tasks] == [True, False, False]
    code = found.tasks[0]
    assert code.acceptance is not None and code.promised is not None
    assert code.acceptance.low < 0.3 < code.acceptance.high < code.promised
    assert (code.answers, code.per_pass, code.replaced) == (60, 2.0, 0.0)


@pytest.mark.parametrize("tasks", [1, 5])
def test_chance_is_seldom_taken_for_drift(tasks: int) -> None:
    names = [f"task-{number}" for number in range(tasks)]
    wrong = 0
    for seed in range(100):
        known = [task(0.7, 100 * seed + n, name) for n, name in enumerate(names)]
        log = [
            each
            for n, name in enumerate(names)
            for each in answers(0.7, 30, 100_000 + 100 * seed + n, name)
        ]
        wrong += any(each.drifted for each in look(known, log).tasks)
    assert wrong <= 8


def test_of_few_answers_nothing_is_said() -> None:
    found = look([task()], answers(0.02, 7, 5))
    assert found.tasks[0].lost is None and not found.tasks[0].drifted
    assert look([task()], answers(0.02, 8, 5)).tasks[0].drifted
    assert look([task()], []).tasks[0].acceptance is None


def test_answers_at_another_temperature_or_of_another_draft_are_not_held_against_it() -> None:
    hot = answers(0.1, 50, 6, temperature=1.0)
    plain = answers(0.1, 50, 6, draft=None)
    found = look([task()], hot + plain)
    assert found.tasks[0].answers == 100 and found.tasks[0].acceptance is None
    unused = replace(task(), draft_length=0)
    assert look([unused], answers(0.1, 50, 6)).tasks[0].lost is None


def test_the_fallback_has_promised_nothing() -> None:
    log = answers(0.1, 50, 7, "fallback", draft="small@single")
    found = look([task()], log).tasks[-1]
    assert (found.task, found.promised, found.drifted) == ("fallback", None, False)


def test_a_bundle_without_prompts_figures_still_shows_its_promise() -> None:
    curve = AcceptanceCurve((1.65, 2.0), (0, 0, 1))
    found = look([replace(task(), trials=(), curve=curve)], answers(0.1, 50, 8)).tasks[0]
    assert found.promised == pytest.approx(0.65) and found.lost is None


@pytest.mark.parametrize(("unknown", "new"), [(0, False), (15, False), (20, True), (60, True)])
def test_a_new_task_is_reported_when_enough_prompts_are_surely_unknown(
    unknown: int, new: bool
) -> None:
    log = answers(0.7, unknown, 9, unknown=True) + answers(0.7, 300 - unknown, 10)
    found = look([task()], log)
    assert (found.measured, found.unknown, found.new_task) == (300, unknown, new)
    assert found.expected == pytest.approx(0.01)


def test_a_share_that_few_validation_prompts_allow_is_no_new_task() -> None:
    few = replace(KNOWN, validation=5, beyond=0)
    log = answers(0.7, 25, 9, unknown=True) + answers(0.7, 75, 10)
    found = watch([task()], FALLBACK, few, 0.0, log)
    assert not found.new_task and found.chance is not None and found.chance > 0.1


def test_without_distances_nothing_is_said_of_new_tasks() -> None:
    log = answers(0.7, 300, 9, unknown=None, distance=None)
    found = watch([task()], FALLBACK, None, 0.0, log)
    assert (found.expected, found.chance, found.new_task) == (None, None, False)
    assert found.tasks[0].unknown is None
