"""What an assignment keeps for later stages."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from taskspec.errors import ArtifactError
from taskspec.pipeline.assign import load_costs


def test_an_assignment_that_does_not_say_what_drafts_cost_is_to_be_made_again(
    tmp_path: Path,
) -> None:
    value = {"target_pass_seconds": [0.01, 0.012], "overhead": 0.1}
    (tmp_path / "assignment.json").write_text(json.dumps(value))
    with pytest.raises(ArtifactError, match="does not say what drafts cost.*remove"):
        load_costs(tmp_path)
    value["draft_seconds"] = {"small": 0.002}
    (tmp_path / "assignment.json").write_text(json.dumps(value))
    costs = load_costs(tmp_path)
    assert costs.target.verify_ratio(2) == pytest.approx(1.2)
    assert costs.draft_seconds == {"small": 0.002}
