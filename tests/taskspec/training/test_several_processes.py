"""Alignment in several processes, here two on the CPU: as in one, however they are started."""

from __future__ import annotations

import csv
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from taskspec_aligners.kd import KD
from torch import Tensor
from typer.testing import CliRunner

from taskspec.cli.main import app
from taskspec.pipeline.search_record import load_search
from taskspec.recipe.alignment import AlignConfig, TrainerConfig
from taskspec.testing.toy_draft import toy_answers, toy_draft
from taskspec.testing.toy_target import toy_target
from taskspec.training.fit import fit
from taskspec.training.packing import answer_tokens, plan_batches

TRAIN = Path(__file__).with_name("train_toy.py")
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def run(*command: str, cwd: Path, code: int = 0) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    assert (done.returncode == 0) == (code == 0), done.stdout + done.stderr
    return done.stdout


def train(folder: Path, strategy: str, aligner: str, *rest: str, code: int = 0) -> None:
    folder.mkdir(exist_ok=True)
    command = (sys.executable,) if strategy == "auto" else TORCHRUN
    run(*command, str(TRAIN), strategy, aligner, str(folder), *rest, cwd=folder, code=code)


def curve(folder: Path) -> list[float]:
    """Held-out acceptance, over all processes, four times during the training."""
    with (folder / "log/metrics.csv").open() as file:
        return [float(row["val_alpha"]) for row in csv.DictReader(file) if row["val_alpha"]]


def weights(folder: Path) -> dict[str, Tensor]:
    return load_file(next((folder / "draft").glob("*.safetensors")))


@pytest.mark.parametrize("aligner", ["kd", "lora-kd"])
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_processes_learn_as_one_does_with_the_same_global_batch(
    tmp_path: Path, strategy: str, aligner: str
) -> None:
    train(tmp_path / "one", "auto", aligner)
    train(tmp_path / "two", strategy, aligner)
    assert len(curve(tmp_path / "one")) == 4
    assert curve(tmp_path / "two") == pytest.approx(curve(tmp_path / "one"), abs=2e-3)
    torch.testing.assert_close(
        weights(tmp_path / "two"), weights(tmp_path / "one"), rtol=0.05, atol=5e-3
    )


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_processes_that_were_killed_go_on_as_if_they_had_not_been(
    tmp_path: Path, strategy: str
) -> None:
    train(tmp_path / "whole", strategy, "kd")
    train(tmp_path / "cut", strategy, "kd", "16", code=1)
    assert not (tmp_path / "cut/draft").exists()
    train(tmp_path / "cut", strategy, "kd")
    assert curve(tmp_path / "cut") == curve(tmp_path / "whole")
    torch.testing.assert_close(
        weights(tmp_path / "cut"), weights(tmp_path / "whole"), rtol=0, atol=0
    )


def test_what_both_processes_did_until_an_early_end_is_counted(tmp_path: Path) -> None:
    trainer = TrainerConfig(
        accelerator="cpu", devices="2", precision="32-true", val_check_interval=0.25
    )
    config = AlignConfig(batch_tokens=48, early_stopping=1, trainer=trainer)
    answers = toy_answers()
    plan = plan_batches(answers, 48, 600, seed=0)
    each = math.ceil(len(plan) / 2)
    # Nothing is learnt at this rate, so that the second of four scorings is no better.
    report = fit(
        toy_draft(),
        KD(),
        answers,
        toy_target(),
        config,
        tokens=600,
        learning_rate=1e-30,
        seed=0,
        folder=tmp_path,
        held_out=answers[:2],
    )
    done = plan[: 2 * 2 * int(each * 0.25)]
    assert len(done) < len(plan)
    assert report.tokens == sum(answer_tokens(answers, rows) for rows in done)


def finished(folder: Path) -> None:
    """A run has all its drafts, and they lose nothing."""
    results = json.loads((folder / "results.json").read_text())
    assert results["lossless"]["mismatches"] == 0
    align = folder / "stages/05-align"
    names = {path.name for path in align.iterdir() if path.is_dir()}
    assert names == {f"small@{key}" for key in ("shared", "task-0", "task-1", "single")}
    assert len((align / "small@task-0/training/log/metrics.csv").read_text().splitlines()) > 1


@pytest.mark.parametrize(
    "overrides",
    [[], ["align.options.data=mixed", "collect.signal=none"], ["align.jobs=side-by-side"]],
)
def test_a_run_uses_two_devices(
    write_recipe: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, overrides: list[str]
) -> None:
    recipe = write_recipe()
    monkeypatch.chdir(recipe.parent)
    result = CliRunner().invoke(app, ["run", recipe.name, "align.trainer.devices=2", *overrides])
    assert result.exit_code == 0, result.output
    finished(recipe.parent / "runs/tiny")


@pytest.mark.parametrize("strategy", ["auto", "fsdp"])
def test_torchrun_makes_one_run_of_two_processes(
    write_recipe: Callable[..., Path], strategy: str
) -> None:
    recipe = write_recipe()
    command = (*TORCHRUN, "-m", "taskspec", "run", recipe.name)
    settings = (f"align.trainer.strategy={strategy}", "align.trainer.devices=2")
    text = run(*command, *settings, cwd=recipe.parent)
    assert text.count("aligning small to all tasks, alone") == 1, "one process speaks"
    finished(recipe.parent / "runs/tiny")
    again = run(*command, *settings, cwd=recipe.parent)
    assert again.count("finished before") == 9


def test_a_search_is_decided_by_one_process_and_trained_by_both(
    write_recipe: Callable[..., Path],
) -> None:
    recipe = write_recipe()
    command = (*TORCHRUN, "-m", "taskspec", "run", recipe.name, "align.trainer.devices=2")
    pool = "draft.pool.tiny={use: causal-lm, options: {layers: 1, vocabulary: 64}}"
    text = run(*command, pool, "align.search.rounds=2", cwd=recipe.parent)
    record = load_search(recipe.parent / "runs/tiny/stages/05-align")
    assert record is not None and text.count("search over 2 drafts") == 1
    for label in (0, 1):
        assert len(record.dropped(label)) >= 1
    again = run(*command, pool, "align.search.rounds=2", cwd=recipe.parent)
    assert again.count("finished before") == 9
