"""Draft lengths follow the machine's costs."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from taskspec.decoding.cost import AcceptanceCurve, TargetCost
from taskspec.decoding.records import DraftChoice, Request
from taskspec.serving import calibration
from taskspec.serving.calibration import Calibrated, calibrate
from taskspec.serving.routing import Assignment

REQUEST = Request("0", (1, 2, 3), 8)
CURVE = AcceptanceCurve((1.6, 2.0, 2.2, 2.3), (1, 2, 3, 4), (1, 2, 3, 4))
TASK = Assignment("code", "small", 2, CURVE)


def bundle(*tasks: Assignment) -> Any:
    """What calibration reads of a bundle."""
    pool = SimpleNamespace(choice=DraftChoice, drafters={"small": object(), "lookup": object()})
    manifest = SimpleNamespace(tasks=tasks)
    engine = SimpleNamespace(model=None)
    return SimpleNamespace(manifest=manifest, engine=engine, pool=pool, target=None)


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
    (found,) = calibrate(bundle(TASK), REQUEST)
    assert found.before == TASK
    assert found.after == Assignment("code", "small", length, CURVE)


def test_the_promise_is_over_plain_decoding_with_its_overhead(machine: Any) -> None:
    machine((1.0, 1.1, 1.2, 1.3, 1.4), 0.3, overhead=0.5)
    (found,) = calibrate(bundle(TASK), REQUEST)
    k = found.after.draft_length
    expected = CURVE.block_efficiency[k - 1] * 1.5 / (k * 0.3 + 1 + 0.1 * k + 0.5)
    assert found.predicted == pytest.approx(expected)


def test_a_task_that_decodes_plainly_here_keeps_its_draft_for_elsewhere(machine: Any) -> None:
    machine((1.0, 1.0, 1.0, 1.0, 1.0), 5.0)
    (here,) = calibrate(bundle(TASK), REQUEST)
    assert (here.after.draft, here.after.draft_length, here.predicted) == ("small", 0, 1.0)
    machine((1.0, 1.0, 1.0, 1.0, 1.0), 0.2)
    (there,) = calibrate(bundle(here.after), REQUEST)
    assert there.after == TASK


def test_what_is_not_known_stays(machine: Any) -> None:
    machine((1.0, 1.0, 1.0, 1.0, 1.0), 0.1)
    plain, unknown = Assignment("chat", None, 0), Assignment("sql", "lookup", 3)
    found = calibrate(bundle(plain, unknown), REQUEST)
    assert found == (Calibrated(plain, plain, 1.0), Calibrated(unknown, unknown, None))
