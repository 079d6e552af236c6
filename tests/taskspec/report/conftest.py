"""A run's facts, made up."""

from __future__ import annotations

import pytest

from taskspec.evaluation.routing import RoutedPrompt, calibration, confusion
from taskspec.evaluation.statistics import Interval
from taskspec.evaluation.table import (
    Clustering,
    Lossless,
    ResultRow,
    Results,
    RouterScore,
    TaskReport,
    VerifierUsed,
)
from taskspec.report.facts import (
    Candidate,
    DraftSize,
    Positions,
    Prompt,
    RouterLabels,
    Routing,
    RunFacts,
    SearchShown,
    StageCost,
    Task,
    Training,
    Tried,
)


def row(method: str, task: str, speedup: float) -> ResultRow:
    """A row of the tables."""
    ends = speedup - 0.1, speedup + 0.1
    return ResultRow(method, task, 100 * speedup, speedup, *ends, 1.9, 0.6, 0.7, 3, 10, 480)


@pytest.fixture
def results() -> Results:
    """Two tasks, one of which gains."""
    rows = [row(m, t, s) for m, s in (("plain", 1.0), ("routed", 1.5)) for t in ("a", "b", "all")]
    return Results(
        rows=tuple(rows),
        lossless=Lossless(20, 0, "float32"),
        clustering=Clustering(0.95, 0.9, 2),
        router=RouterScore(0.9, 0.95, 0.05, 0.1),
        verifier=VerifierUsed("greedy", True),
        tasks=(TaskReport("a", ("sort",), ("small@task-0",), 0.0, 0.0),),
        speed_regret=0.05,
        prompt_share=0.125,
        speedup_after_prompts=1.625,
        environment={"target": "tiny", "packages": {"torch": "2"}},
    )


@pytest.fixture
def facts(results: Results) -> RunFacts:
    """The facts of a whole run."""
    routed = [
        RoutedPrompt("1", "a", "sort", True, 0.9),
        RoutedPrompt("2", "a", None, None, 0.3),
        RoutedPrompt("3", "b", "sort", False, 0.7),
    ]
    counted = confusion(routed, ("sort", "mail"))
    assert counted is not None
    chosen = Candidate("small@task-0", 3, 1.9, 1.4, 27.0, Interval(1.3, 1.2, 1.4), True)
    left = Candidate("lookup", 1, 1.1, 0.8, 0.0, None, False)
    words, interval = ("list", "order"), Interval(1.5, 1.3, 1.7)
    sort = Task(0, "sort", words, 9, 3, 2, ("Sort it.",), "small@task-0", 3, (chosen,), interval)
    tried = (
        Tried(sort, "small", (1.1, None), 3000, 9.0, "trained to the end", True),
        Tried(sort, "wide", (0.9,), 1000, 5.0, "outranked after round 1", False),
        Tried(sort, "lookup", (), 0, 0.0, "needs no training", False),
    )
    return RunFacts(
        name="mine",
        place="runs/mine",
        recipe="name: mine\n",
        settings={
            "name": "mine",
            "seed": 0,
            "corpus": {"path": "package:prompts/quickstart.jsonl"},
            "target": {"model": "tiny"},
            "align": {"tokens": 10},
            "route": {"quarantine": False},
            "assign": {
                "objective": "speedup",
                "margin": 1.02,
                "memory_share": 0.95,
                "max_memory": None,
            },
        },
        command="taskspec run quickstart",
        results=results,
        tasks=(
            sort,
            Task(1, "mail", (), 5, 1, None, (), None, 0, (left,), None),
        ),
        prompts=(Prompt(0, 0.1, 0.9, "Sort it."), Prompt(-1, 0.5, 0.5, "?")),
        prompt_total=2,
        positions=(Positions("a", 12, (0.8, 0.5)),),
        stages=(StageCost("collect", "9 prompts", 61.0, 2_000_000_000, None),),
        trainings=(Training("small", "sort", 9.0, ((0, 3.0), (5, 1.0)), ((5, 0.4),)),),
        drafts=(DraftSize("small@task-0", 5_000_000),),
        target_pass=0.02,
        overhead=0.1,
        routing=Routing("held-out prompts", counted, calibration(routed), 0.2),
        labels=RouterLabels("speed", 0.42, 40, (("by speed", 0.021), ("fallback alone", 0.09))),
        certificate=None,
        search=SearchShown(tried, 4000, 14.0, 3.0, 6000),
    )
