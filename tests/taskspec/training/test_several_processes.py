"""Alignment on several devices of one machine, here two processes on the CPU."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from taskspec.cli.main import app


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("overrides", [[], ["align.options.data=mixed", "collect.signal=none"]])
def test_a_run_aligns_its_drafts_with_two_processes(
    write_recipe: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, overrides: list[str]
) -> None:
    recipe = write_recipe()
    monkeypatch.chdir(recipe.parent)
    result = CliRunner().invoke(app, ["run", recipe.name, "align.trainer.devices=2", *overrides])
    assert result.exit_code == 0, result.output
    results = json.loads((recipe.parent / "runs/tiny/results.json").read_text())
    assert results["lossless"]["mismatches"] == 0
    log = recipe.parent / "runs/tiny/stages/05-align/small@task-0/training/log/metrics.csv"
    assert len(log.read_text().splitlines()) > 1
