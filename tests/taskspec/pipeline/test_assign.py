"""What an assignment keeps for later stages."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from taskspec.errors import ArtifactError
from taskspec.pipeline.assign import load_assignment, load_costs

VALUE = {
    "spares": [],
    "tasks": [],
    "baselines": {},
    "fallback": {
        "task": "fallback",
        "draft": None,
        "draft_length": 0,
        "curve": None,
        "trials": [],
    },
    "target_pass_seconds": [0.01, 0.012],
    "overhead": 0.1,
    "draft_seconds": {"small": 0.002},
}


def test_costs_turn_acceptance_into_seconds(tmp_path: Path) -> None:
    (tmp_path / "assignment.json").write_text(json.dumps({"format": 4, **VALUE}))
    costs = load_costs(tmp_path)
    assert costs.target.verify_ratio(2) == pytest.approx(1.2)
    assert costs.draft_seconds == {"small": 0.002}
    assert load_assignment(tmp_path).fallback.draft is None


@pytest.mark.parametrize("load", [load_assignment, load_costs])
def test_an_assignment_of_another_version_is_to_be_made_again(load, tmp_path: Path) -> None:
    (tmp_path / "assignment.json").write_text(json.dumps(VALUE))
    with pytest.raises(ArtifactError, match="another version of TaskSpec; run its recipe again"):
        load(tmp_path)
