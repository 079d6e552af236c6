"""Killed anywhere and started again, a run ends with the same result."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

pytestmark = pytest.mark.slow

COMMAND = [sys.executable, "-c", "from taskspec.cli.main import main; main()", "run"]
STAGES = {
    "collect": "stages/.01-collect.partial",
    "collect-shards": "stages/.01-collect.partial/answers-0001.safetensors",
    "encode": "stages/.02-encode.partial",
    "partition": "stages/.03-partition.partial",
    "draft": "stages/.04-draft.partial",
    "draft-training": "stages/.04-draft.partial/.small.partial/training/checkpoints/last.ckpt",
    "align": "stages/.05-align.partial",
    "align-second": "stages/.05-align.partial/small@task-0/done.json",
    "assign": "stages/.06-assign.partial",
    "route": "stages/.07-route.partial",
    "evaluate": "stages/.08-evaluate.partial",
    "evaluate-timings": "stages/.08-evaluate.partial/timings.jsonl",
    "bundle": ".bundle.partial",
}
SAME = (
    "stages/01-collect/answers-*.safetensors",
    "stages/01-collect/free-*.safetensors",
    "stages/02-encode/vectors.safetensors",
    "stages/03-partition/tasks.json",
    "stages/04-draft/small/draft/*",
    "stages/05-align/*/draft/*.safetensors",
    "stages/07-route/router/*",
)


def start(recipe: Path, *overrides: str) -> subprocess.Popen[str]:
    """Start a run in the recipe's folder."""
    return subprocess.Popen(
        [*COMMAND, recipe.name, *overrides],
        cwd=recipe.parent,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finish(recipe: Path, *overrides: str) -> Path:
    """Run to the end; the run's folder."""
    process = start(recipe, *overrides)
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output
    name = next((o.removeprefix("name=") for o in overrides if o.startswith("name=")), "tiny")
    return recipe.parent / "runs" / name


def digests(folder: Path) -> dict[str, str]:
    """What must not depend on interruptions."""
    files = sorted(path for pattern in SAME for path in folder.glob(pattern))
    assert files
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    """Wait until a file of a stage appears."""
    while not path.exists():
        if process.poll() is not None:
            pytest.fail(f"the run ended before {path} was seen: {process.communicate()[0]}")
        time.sleep(0.002)


def wait_until_gone(session: int) -> None:
    """Wait until nothing runs in a session; what nobody reaps, as in a container, runs no more."""

    def running(pid: int) -> bool:
        try:
            return os.getsid(pid) == session and psutil.Process(pid).status() != "zombie"
        except (ProcessLookupError, psutil.NoSuchProcess):
            return False

    end = time.monotonic() + 30
    while left := [pid for pid in psutil.pids() if running(pid)]:
        assert time.monotonic() < end, f"still running: {[psutil.Process(p) for p in left]}"
        time.sleep(0.1)


def test_killed_in_every_stage_and_resumed(write_recipe: Callable[..., Path]) -> None:
    recipe = write_recipe()
    # The unaligned draft is forced on every task, so that timing noise cannot change the choice.
    fixed = ["collect.batch_size=2", "assign.draft_lengths=[2]", "draft.pool.lookup=null"]
    whole = finish(recipe, "name=whole", *fixed)
    killed = recipe.parent / "runs" / "killed"
    for place in STAGES.values():
        process = start(recipe, "name=killed", *fixed)
        wait_for(killed / place, process)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
    finish(recipe, "name=killed", *fixed)
    assert digests(killed) == digests(whole)
    for folder in (killed, whole):
        results = json.loads((folder / "results.json").read_text())
        assert results["lossless"]["mismatches"] == 0
    assert not list(killed.rglob("*.partial"))


@pytest.mark.parametrize("place", ["draft", "draft-training"])
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["Ctrl-C", "SIGTERM"]
)
def test_a_signal_leaves_a_clean_message_and_a_run_to_continue(
    write_recipe: Callable[..., Path], number: signal.Signals, code: int, place: str
) -> None:
    recipe = write_recipe()
    process = start(recipe, "align.tokens=4000")
    wait_for(recipe.parent / "runs" / "tiny" / STAGES[place], process)
    process.send_signal(number)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == code, output
    assert "Traceback" not in output
    assert "run the same command again to continue" in output
    assert (finish(recipe, "align.tokens=4000") / "results.json").is_file()


def test_sigterm_reaches_the_processes_that_train(write_recipe: Callable[..., Path]) -> None:
    recipe = write_recipe()
    settings = ("align.tokens=4000", "align.trainer.devices=2")
    process = start(recipe, *settings)
    wait_for(recipe.parent / "runs" / "tiny" / STAGES["draft-training"], process)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 143, output
    wait_until_gone(process.pid)
    assert (finish(recipe, *settings) / "results.json").is_file()


def test_processes_that_train_end_together_when_one_of_them_is_told_to(
    write_recipe: Callable[..., Path],
) -> None:
    recipe = write_recipe()
    process = start(recipe, "align.tokens=4000", "align.trainer.devices=2")
    place = recipe.parent / "runs" / "tiny" / STAGES["draft-training"]
    wait_for(place, process)
    saved = place.stat().st_mtime_ns
    children = psutil.Process(process.pid).children()
    [child for child in children if "spawn_main" in str(child.cmdline())][1].terminate()
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 143, output
    wait_until_gone(process.pid)
    assert place.stat().st_mtime_ns > saved


def test_two_runs_do_not_share_a_folder(write_recipe: Callable[..., Path]) -> None:
    recipe = write_recipe()
    first = start(recipe)
    wait_for(recipe.parent / "runs" / "tiny" / STAGES["collect"], first)
    first.send_signal(signal.SIGSTOP)
    second = start(recipe)
    output, _ = second.communicate(timeout=120)
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    assert second.returncode == 2
    assert "in use by another taskspec process" in output and "Traceback" not in output
