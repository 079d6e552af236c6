"""What correction may choose from: each draft of a bundle once, however many tasks use it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from taskspec_drafters.prompt_lookup import PromptLookup

from taskspec.decoding.cost import AcceptanceCurve, TargetCost
from taskspec.decoding.records import DraftChoice, Request
from taskspec.recipe.choice import PluginChoice
from taskspec.recipe.schema import CorrectionConfig
from taskspec.serving import correcting
from taskspec.serving.correcting import measure_correction
from taskspec.serving.pool import DraftEntry, Pool
from taskspec.serving.routing import Assignment

LOOKUP = DraftEntry("lookup", PluginChoice("prompt-lookup"), Path("lookup"))
SPARE = DraftEntry("prompt-lookup", LOOKUP.plugin, LOOKUP.folder)
ADAPTED = DraftEntry("small@task-0", PluginChoice("causal-lm"), Path("small"), Path("adapter"))
SHORT = AcceptanceCurve((1.4, 1.6), (0, 0, 1))
LONG = AcceptanceCurve((1.2, 1.4, 1.5, 1.5), (0, 0, 0, 0, 1))


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Costs that need no machine."""
    monkeypatch.setattr(correcting, "measure_target", lambda *_: TargetCost((1.0, 1.1)))
    monkeypatch.setattr(correcting, "measure_draft", lambda *_: 0.01)
    monkeypatch.setattr(correcting, "measure_overhead", lambda *_: 0.1)


def bundle(*tasks: Assignment, spares: tuple[Assignment, ...] = ()) -> Any:
    """What correction reads of a bundle."""
    entries = {each.name: each for each in (LOOKUP, SPARE, ADAPTED)}
    drafters = {each.key: PromptLookup() for each in entries.values()}
    return SimpleNamespace(
        manifest=SimpleNamespace(
            tasks=tasks, fallback=Assignment("fallback", None, 0), spares=spares
        ),
        engine=SimpleNamespace(model=None),
        pool=Pool(drafters, entries),
        target=SimpleNamespace(context_length=256),
    )


def test_tasks_measured_up_to_other_lengths_share_one_way_to_draft() -> None:
    kept, added = Assignment("code", "lookup", 2, SHORT), Assignment("sql", "lookup", 4, LONG)
    spare = Assignment("spare", "prompt-lookup", 4, LONG)
    found = measure_correction(
        bundle(kept, added, spares=(spare,)), Request("0", (1, 2), 8), 1, CorrectionConfig()
    )
    (way,) = found.ways
    assert way.choice == DraftChoice("lookup", 2) and way.watched and way.longest == 2
    assert way.curve.block_efficiency == pytest.approx((1.4 - 0.4 / 3, 1.6 - 0.4 / 3))


def test_a_draft_and_its_adapters_are_ways_of_their_own() -> None:
    tasks = Assignment("code", "small@task-0", 2, SHORT), Assignment("sql", "lookup", 4, LONG)
    found = measure_correction(bundle(*tasks), Request("0", (1, 2), 8), 1, CorrectionConfig())
    choices = {way.choice: way.watched for way in found.ways}
    assert choices == {
        DraftChoice("small", 2, "small@task-0"): False,
        DraftChoice("lookup", 4): True,
    }


@pytest.mark.parametrize("wanted", [False, True])
def test_experience_is_what_the_recipe_says(wanted: bool) -> None:
    config = CorrectionConfig(use=True, experience=wanted)
    tasks = Assignment("code", "lookup", 2, SHORT)
    found = measure_correction(bundle(tasks), Request("0", (1, 2), 8), 1, config)
    assert (found.experience is not None) == wanted
