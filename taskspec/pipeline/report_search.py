"""What the report shows of a search over drafts."""

from __future__ import annotations

import json
from collections.abc import Sequence

from taskspec.pipeline.run_folder import RunFolder
from taskspec.pipeline.search_record import (
    SEARCH,
    TRAINED,
    SearchRecord,
    Trial,
    from_json,
)
from taskspec.report.facts import SearchShown, Task, Tried


def search_shown(run: RunFolder, tasks: Sequence[Task]) -> SearchShown | None:
    """The search of a run; None where every draft was trained to the end.

    Raises:
        ArtifactError: When what it left was altered.
    """
    text = run.text("align", SEARCH)
    if text is None:
        return None
    record = from_json(json.loads(text))
    own: dict[tuple[int, str], list[Trial]] = {}
    for trial in record.trials:
        own.setdefault((trial.label, trial.draft), []).append(trial)
    tried = [_tried(record, tasks[label], trials) for (label, _), trials in sorted(own.items())]
    return SearchShown(
        tuple(tried), record.tokens, record.seconds, record.measuring, record.exhaustive
    )


def _tried(record: SearchRecord, task: Task, trials: Sequence[Trial]) -> Tried:
    last = trials[-1]
    number = record.dropped(task.label).get(last.draft)
    outcome = last.verdict if number is None else f"{last.verdict} after round {number}"
    return Tried(
        task=task,
        draft=last.draft,
        promises=tuple(trial.predicted for trial in trials if trial.verdict != TRAINED),
        tokens=sum(trial.tokens for trial in trials),
        seconds=sum(trial.seconds for trial in trials),
        outcome=outcome,
        kept=last.verdict == TRAINED,
    )
