"""Methods beside each other: as JSON and as a table."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from taskspec.evaluation.comparison import Comparison, from_json, render, to_json
from taskspec.evaluation.table import ResultRow


def row(method: str, speedup: float) -> ResultRow:
    ends = speedup - 0.1, speedup + 0.1
    return ResultRow(method, "all", 100 * speedup, speedup, *ends, 1.9, 0.6, None, 3, 10, 480)


@pytest.fixture
def found() -> Comparison:
    """Two methods, one of them also beside the other."""
    rows = (row("full", 1.5), row("no-routing", 1.2))
    beside = (row("no-routing", 0.8),)
    return Comparison(rows, (), 0.0, ("a note",), ("1",), "00", None, {"seed": 0}, beside, "full")


def printed(found: Comparison) -> str:
    output = io.StringIO()
    render(found, "title", Console(file=output, width=160))
    return output.getvalue()


def test_comparisons_survive_their_file(found: Comparison) -> None:
    assert from_json(to_json(found)) == found


def test_differences_to_another_method_have_a_column(found: Comparison) -> None:
    lines = printed(found).splitlines()
    assert any("speed-up (95 %)" in line and "beside full" in line for line in lines)
    assert any("no-routing" in line and "-20 % (-30 to -10)" in line for line in lines)


def test_notes_are_printed_as_they_are(found: Comparison) -> None:
    assert "assign.drafts=[small]" in printed(replace(found, notes=("assign.drafts=[small]",)))


def test_without_another_method_there_is_none(found: Comparison) -> None:
    assert "beside" not in printed(replace(found, beside=(), beside_method=None))
