"""From a run's folder to its report."""

from __future__ import annotations

import csv
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taskspec.corpus.examples import Example
from taskspec.corpus.key_terms import task_terms
from taskspec.evaluation.matrix import Matrix, Timing
from taskspec.evaluation.metrics import position_acceptance
from taskspec.evaluation.routing import RoutedPrompt
from taskspec.evaluation.statistics import Interval
from taskspec.evaluation.table import Results
from taskspec.evaluation.table import from_json as results_from_json
from taskspec.pipeline.artifacts import read_done, read_json, write_atomically
from taskspec.pipeline.assign import load_assignment
from taskspec.pipeline.collect import load_examples
from taskspec.pipeline.encode import load_vectors
from taskspec.pipeline.evaluate import RESULTS, TIMINGS
from taskspec.pipeline.partition import Tasks, load_tasks
from taskspec.pipeline.prompt_map import lay_out
from taskspec.pipeline.report_search import search_shown
from taskspec.pipeline.routing_facts import (
    found_routes,
    labels_shown,
    routed_prompts,
    routing_shown,
)
from taskspec.pipeline.run_folder import RECIPE, RunFolder, open_run
from taskspec.pipeline.runner import SUMMARY
from taskspec.pipeline.timing import ROUTED, read_timings
from taskspec.recipe.yaml_text import read_yaml
from taskspec.report.certificate import read_certificate
from taskspec.report.facts import (
    Candidate,
    CertificateShown,
    DraftSize,
    Positions,
    Prompt,
    RunFacts,
    StageCost,
    Task,
    Training,
)
from taskspec.report.page import render_run

REPORT = "report.html"
CERTIFICATE = "certificate.json"
_STAGES = (
    *("collect", "encode", "partition", "draft", "align"),
    *("assign", "route", "evaluate", "bundle"),
)
_MOST_PROMPTS = 800
_TERMS, _EXAMPLES = 8, 3
_TEXT = 240
_EVIDENCE = {
    "assign": ("assignment.json",),
    "collect": ("examples.json",),
    "encode": ("vectors.safetensors",),
    "partition": ("tasks.json",),
}


def write_report(folder: Path) -> Path:
    """Write a finished run's `report.html`; where it is.

    Raises:
        ArtifactError: When the folder is no run, the run is not finished, or what the report
            shows was altered.
    """
    path = folder / REPORT
    write_atomically(path, render_run(gather(folder)))
    return path


def gather(folder: Path) -> RunFacts:
    """What a finished run's folder says.

    Raises:
        ArtifactError: As `write_report` does.
    """
    run = open_run(folder, list(_STAGES), {"bundle": "bundle"})
    for stage, names in _EVIDENCE.items():
        for name in names:
            run.file(stage, name)
    recipe = (folder / RECIPE).read_text(encoding="utf-8")
    settings: dict[str, Any] = read_yaml(recipe)
    results = results_from_json(run.file("evaluate", RESULTS).read_text(encoding="utf-8"))
    examples = load_examples(run.stages["collect"])
    found = load_tasks(run.stages["partition"])
    # Those of tasks that the recipe leaves out have neither a vector nor a task.
    known = [each for each in examples if each.split != "test" and each.id in found.labels]
    vectors = load_vectors(run.stages["encode"])
    held_out = routed_prompts(run, "evaluate")
    timings = read_timings(run.file("evaluate", TIMINGS))
    evidence = read_json(run.stages["assign"] / "assignment.json")
    routes = found_routes(run)
    by_speed = routes is not None and routes.by_speed
    labels = labels_shown(settings, routes)
    tasks = _tasks(run, known, found, vectors, held_out, timings, evidence, by_speed)
    return RunFacts(
        name=str(settings["name"]),
        place=str(folder),
        recipe=recipe,
        settings=settings,
        command=_command(folder),
        results=results,
        tasks=tasks,
        prompts=_prompts(known, found, vectors),
        prompt_total=len(known),
        positions=_positions(results, examples, held_out, timings),
        stages=_stages(run),
        trainings=_trainings(run, found),
        drafts=_drafts(run.stages["bundle"]),
        target_pass=next(iter(evidence["target_pass_seconds"]), None),
        overhead=evidence["overhead"],
        routing=routing_shown(run, held_out, found, routes, labels.threshold),
        labels=labels,
        certificate=_certificate(run, results.verifier.name),
        search=search_shown(run, tasks),
    )


def _tasks(
    run: RunFolder,
    known: Sequence[Example],
    found: Tasks,
    vectors: NDArray[np.float32],
    held_out: Sequence[RoutedPrompt],
    timings: Sequence[Timing],
    evidence: Mapping[str, Any],
    by_speed: bool,
) -> tuple[Task, ...]:
    assigned = load_assignment(run.stages["assign"]).tasks
    labels = np.array([found.labels[example.id] for example in known])
    terms = task_terms([example.prompt_text for example in known], labels, _TERMS)
    measured = _measured(run, held_out, timings)
    # A router that learnt what is fastest sends prompts to drafts, not to tasks.
    by_task = bool(held_out) and not by_speed
    tasks = []
    for label, name in enumerate(found.names):
        own = np.flatnonzero(labels == label)
        splits = [known[int(index)].split for index in own]
        chosen = assigned[label]
        tasks.append(
            Task(
                label=label,
                name=name,
                terms=terms[label] if label < len(terms) else (),
                training=splits.count("train"),
                validation=splits.count("validation"),
                held_out=sum(each.routed == name for each in held_out) if by_task else None,
                examples=tuple(
                    _beginning(known[index].prompt_text) for index in _middle(vectors, own)
                ),
                draft=chosen.draft,
                draft_length=chosen.draft_length,
                candidates=tuple(
                    _candidate(each, evidence["overhead"], chosen.draft)
                    for each in evidence["evidence"][label]
                ),
                measured=measured.get(name),
            )
        )
    return tuple(tasks)


def _middle(vectors: NDArray[np.float32], own: NDArray[np.int64]) -> list[int]:
    """The prompts of a task that are nearest its mean."""
    if not len(own):
        return []
    distances = np.linalg.norm(vectors[own] - vectors[own].mean(axis=0), axis=1)
    return [int(index) for index in own[np.argsort(distances, kind="stable")[:_EXAMPLES]]]


def _measured(
    run: RunFolder, held_out: Sequence[RoutedPrompt], timings: Sequence[Timing]
) -> dict[str, Interval]:
    """Speed-up of held-out prompts by the task found that they were sent to."""
    routes = {each.prompt: each.routed for each in held_out}
    timed = dict.fromkeys(timing.prompt for timing in timings)
    tasks = {prompt: name for prompt in timed if (name := routes.get(prompt)) is not None}
    if not tasks:
        return {}
    resamples = read_yaml((run.path / RECIPE).read_text())["evaluate"]["resamples"]
    rows = Matrix([t for t in timings if t.prompt in tasks], tasks, resamples).rows(ROUTED, {})
    return {row.task: Interval(row.speedup, row.speedup_low, row.speedup_high) for row in rows}


def _prompts(
    known: Sequence[Example], found: Tasks, vectors: NDArray[np.float32]
) -> tuple[Prompt, ...]:
    chosen = np.arange(len(known))
    if len(known) > _MOST_PROMPTS:
        chosen = np.sort(np.random.default_rng(0).choice(chosen, _MOST_PROMPTS, replace=False))
    places = lay_out(vectors[chosen])
    return tuple(
        Prompt(found.labels[e.id], float(x), float(y), _beginning(e.prompt_text))
        for e, (x, y) in zip([known[int(index)] for index in chosen], places, strict=True)
    )


def _candidate(evidence: Mapping[str, Any], overhead: float, chosen: str | None) -> Candidate:
    """A considered draft, from what the assignment wrote of it."""
    measured = None if evidence["measured"] is None else Interval(**evidence["measured"])
    named = evidence["draft"] == chosen
    # S is over a bare pass of the target; plain decoding takes the overhead as well.
    predicted = evidence["predicted"] * (1 + overhead)
    changed = {"predicted": predicted, "measured": measured, "chosen": named}
    return Candidate(**{**evidence, **changed})


def _beginning(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _TEXT else line[: _TEXT - 1].rstrip() + "…"


def _positions(
    results: Results,
    examples: Sequence[Example],
    held_out: Sequence[RoutedPrompt],
    timings: Sequence[Timing],
) -> tuple[Positions, ...]:
    """By the tables' rows: known tasks, or where these are not known the tasks routed to."""
    known = {example.id: example.task for example in examples if example.split == "test"}
    routes = {each.prompt: each.routed or "fallback" for each in held_out}
    rows = known if all(known.values()) else routes
    first = [timing for timing in timings if (timing.method, timing.repeat) == (ROUTED, 0)]
    found = []
    for task in results.tasks:
        own = [t for t in first if rows.get(t.prompt) == task.task]
        steps = [step for timing in own for step in timing.steps]
        if any(step.drafted for step in steps):
            found.append(Positions(task.task, len(steps), position_acceptance(steps)))
    return tuple(found)


def _stages(run: RunFolder) -> tuple[StageCost, ...]:
    return tuple(
        StageCost(
            name,
            (run.text(name, SUMMARY) or "").strip(),
            done.seconds,
            None if done.memory is None else done.memory.resident,
            None if done.memory is None else done.memory.accelerator,
        )
        for name, done in run.done.items()
    )


def _trainings(run: RunFolder, found: Tasks) -> tuple[Training, ...]:
    """Of every draft that has a log: recovery first, then its alignments."""
    titles = {f"task-{label}": name for label, name in enumerate(found.names)}
    titles |= {"shared": "all tasks, first", "single": "all tasks, alone"}
    trainings = []
    for stage in ("draft", "align"):
        for path in sorted(run.stages[stage].glob("*/training/log/metrics.csv")):
            run.file(stage, path.relative_to(run.stages[stage]).as_posix())
            folder = path.parents[2]
            draft, _, whole = folder.name.partition("@")
            key, _, part = whole.partition(".")
            taught = titles.get(key, key) if key else "free text, its recovery"
            mark = read_done(folder)
            trainings.append(
                Training(
                    draft,
                    f"{taught}, {part.replace('-', ' ')}" if part else taught,
                    None if mark is None else mark.seconds,
                    *_curves(path),
                )
            )
    return tuple(trainings)


_Curve = tuple[tuple[int, float], ...]


def _curves(path: Path) -> tuple[_Curve, _Curve]:
    """Training loss and held-out acceptance by step, from Lightning's CSV."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    loss, held_out = (
        tuple((int(row["step"]), float(row[name])) for row in rows if row.get(name))
        for name in ("loss", "val_alpha")
    )
    return loss, held_out


def _drafts(bundle: Path) -> tuple[DraftSize, ...]:
    folders = sorted(path for path in (bundle / "drafts").glob("*") if path.is_dir())
    return tuple(
        DraftSize(
            folder.name, sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        )
        for folder in folders
    )


def _certificate(run: RunFolder, verifier: str) -> CertificateShown | None:
    """One of this very bundle with the run's verifier, from the bundle's folder or the run's."""
    for path in (run.stages["bundle"] / CERTIFICATE, run.path / CERTIFICATE):
        if path.is_file():
            shown = read_certificate(read_json(path))
            if (shown.bundle, shown.verifier) == (run.done["bundle"].result, verifier):
                return shown
    return None


def _command(folder: Path) -> str | None:
    """The command line that the run was last brought up to date with."""
    path = folder / "provenance.json"
    argv = read_json(path).get("argv", []) if path.is_file() else []
    if argv[1:2] != ["run"]:
        return None
    return shlex.join(["taskspec", *argv[1:]])
