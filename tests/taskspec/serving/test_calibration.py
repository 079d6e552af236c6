"""Draft lengths follow the machine's costs."""

from __future__ import annotations

import time
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from taskspec.decoding.cost import AcceptanceCurve, TargetCost
from taskspec.decoding.records import DraftChoice, Request
from taskspec.serving import calibration
from taskspec.serving.calibration import Calibrated, calibrate
from taskspec.serving.routing import Assignment

REQUEST = Request("0", (1, 2, 3), 8)
CURVE = AcceptanceCurve((1.6, 2.0, 2.2, 2.3), (0, 0, 0, 0, 1))
TASK = Assignment("code", "small", 2, CURVE)
PLAIN = Assignment("fallback", None, 0)


def bundle(*tasks: Assignment, fallback: Assignment = PLAIN) -> Any:
    """What calibration reads of a bundle."""
    pool = SimpleNamespace(choice=DraftChoice, drafters={"small": object(), "lookup": object()})
    manifest = SimpleNamespace(tasks=tasks, fallback=fallback)
    engine = SimpleNamespace(model=None)
    target = SimpleNamespace(context_length=64)
    return SimpleNamespace(manifest=manifest, engine=engine, pool=pool, target=target)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Set what a target pass over 1, 2, ... tokens and a drafted token take, and o."""

    def set_costs(passes: tuple[float, ...], draft: float, overhead: float = 0.0) -> None:
        monkeypatch.setattr(calibration, "measure_target", lambda *_: TargetCost(passes))
        monkeypatch.setattr(calibration, "measure_draft", lambda *_: draft)
        monkeypatch.setattr(calibration, "measure_overhead", lambda *_: overhead)

    return set_costs


@pytest.mark.parametrize(("draft", "length"), [(0.0, 4), (0.05, 3), (0.2, 2), (0.4, 1), (0.7, 0)])
def test_the_dearer_a_draft_the_shorter(machine: Any, draft: float, length: int) -> None:
    machine((1.0, 1.0, 1.0, 1.0, 1.0), draft)
    found, _ = calibrate(bundle(TASK), REQUEST)
    assert found.before == TASK
    assert found.after == Assignment("code", "small", length, CURVE)


def test_the_promise_is_over_plain_decoding_with_its_overhead(machine: Any) -> None:
    machine((1.0, 1.1, 1.2, 1.3, 1.4), 0.3, overhead=0.5)
    found, _ = calibrate(bundle(TASK), REQUEST)
    k = found.after.draft_length
    expected = CURVE.block_efficiency[k - 1] * 1.5 / (k * 0.3 + 1 + 0.1 * k + 0.5)
    assert found.predicted == pytest.approx(expected)


def test_a_task_that_decodes_plainly_here_keeps_its_draft_for_elsewhere(machine: Any) -> None:
    machine((1.0, 1.0, 1.0, 1.0, 1.0), 5.0)
    here, _ = calibrate(bundle(TASK), REQUEST)
    assert (here.after.draft, here.after.draft_length, here.predicted) == ("small", 0, 1.0)
    machine((1.0, 1.0, 1.0, 1.0, 1.0), 0.2)
    there, _ = calibrate(bundle(here.after), REQUEST)
    assert there.after == TASK


def test_what_is_not_known_stays(machine: Any) -> None:
    machine((1.0, 1.0, 1.0, 1.0, 1.0), 0.1)
    plain, unknown = Assignment("chat", None, 0), Assignment("sql", "lookup", 3)
    found = calibrate(bundle(plain, unknown), REQUEST)
    kept = Calibrated(plain, plain, 1.0), Calibrated(unknown, unknown, None)
    assert found == (*kept, Calibrated(PLAIN, PLAIN, 1.0))


def test_the_fallback_s_draft_length_is_chosen_too(machine: Any) -> None:
    fallback = Assignment("fallback", "small", 2, CURVE)
    machine((1.0, 1.0, 1.0, 1.0, 1.0), 0.0)
    assert calibrate(bundle(fallback=fallback), REQUEST)[-1].after.draft_length == 4
    machine((1.0, 1.0, 1.0, 1.0, 1.0), 5.0)
    assert calibrate(bundle(TASK, fallback=fallback), REQUEST)[-1].after.draft_length == 0


def test_passes_are_timed_as_far_as_the_context_reaches(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, ...]] = []

    def measure(*given: Any) -> TargetCost:
        asked.append(given)
        return TargetCost((1.0, 1.0))

    monkeypatch.setattr(calibration, "measure_target", measure)
    monkeypatch.setattr(calibration, "measure_draft", lambda *_: 0.0)
    monkeypatch.setattr(calibration, "measure_overhead", lambda *_: 0.0)
    found, _ = calibrate(bundle(TASK), REQUEST)
    assert asked == [(None, REQUEST.prompt, 5, 64)]
    assert found.after.draft_length == 1, "passes longer than any timed are not taken to be free"
    pace = calibration.measure_pace(bundle(TASK), REQUEST, 40)
    assert asked[1][2:4] == (40 * 3, 64) and pace.rate([(None, 8)], {None: 0}) == pytest.approx(2)


def test_overhead_is_what_steps_take_beyond_their_passes_prompts_left_out() -> None:
    class Clocked:
        """Emits its first token late, and each further one after a fixed time."""

        def generate(self, requests: list[Request], rows: int, on_emit: Any) -> None:
            assert len(requests) == rows == len({each.id for each in requests})
            time.sleep(0.1)
            for place in range(requests[0].max_new_tokens):
                time.sleep(0.03 if place else 0.0)
                for each in requests:
                    on_emit(each.id, (1,))

    engine: Any = Clocked()
    cost = TargetCost((0.01, 0.012))
    one = calibration.measure_overhead(engine, REQUEST, cost)
    assert one >= 2 and one < calibration.measure_overhead(engine, REQUEST, TargetCost((0.005,)))
    two = calibration.measure_overhead(engine, REQUEST, cost, rows=2)
    assert two >= 3 - 1.2
    assert calibration.measure_overhead(engine, REQUEST, TargetCost((0.01,)), rows=2) >= 0
    single = replace(REQUEST, max_new_tokens=1)
    assert calibration.measure_overhead(engine, single, cost) == 0.0
