"""The facts of a finished run, as its report shows them. None is what the run does not say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from taskspec.evaluation.routing import CalibrationBin, Confusion
from taskspec.evaluation.statistics import Interval
from taskspec.evaluation.table import Results


@dataclass(frozen=True)
class Prompt:
    """A prompt on the map of all prompts.

    Attributes:
        label: Its task's label; -1 is noise.
        x: Where it lies, 0 to 1.
        y: Where it lies, 0 to 1.
        text: How it begins.
    """

    label: int
    x: float
    y: float
    text: str


@dataclass(frozen=True)
class Candidate:
    """A draft that was considered for a task.

    Attributes:
        draft: Its name.
        draft_length: The length with the best promise.
        block_efficiency: Tokens per pass there, on validation prompts.
        predicted: Speed-up over plain decoding that the cost model promises.
        memory: Megabytes that it takes as stored.
        measured: Speed-up on validation prompts; None when its promise ruled it out.
        chosen: Whether it was assigned.
    """

    draft: str
    draft_length: int
    block_efficiency: float
    predicted: float
    memory: float
    measured: Interval | None
    chosen: bool


@dataclass(frozen=True)
class Task:
    """A task that was found, and what was chosen for it.

    Attributes:
        label: Its number.
        name: Its name.
        terms: Words that set it apart.
        training: Training prompts.
        validation: Validation prompts.
        held_out: Held-out prompts that the router sent to it.
        examples: Prompts from its middle.
        draft: What decodes it; None is plain decoding.
        draft_length: Tokens drafted per step.
        candidates: What was considered, best promise first.
        measured: Speed-up of the held-out prompts that were sent to it; None when none was timed.
    """

    label: int
    name: str
    terms: tuple[str, ...]
    training: int
    validation: int
    held_out: int | None
    examples: tuple[str, ...]
    draft: str | None
    draft_length: int
    candidates: tuple[Candidate, ...]
    measured: Interval | None


@dataclass(frozen=True)
class Positions:
    """How often drafted tokens stood when held-out prompts were routed.

    Attributes:
        task: Row of the tables.
        passes: Verification passes.
        rates: u_i, the share of passes that drafted i tokens in which i stood.
    """

    task: str
    passes: int
    rates: tuple[float, ...]


@dataclass(frozen=True)
class StageCost:
    """What a stage made, and what it took.

    Attributes:
        name: The stage.
        summary: What it said at its end.
        seconds: How long it worked.
        resident: Bytes of main memory that it held at most.
        accelerator: Bytes of a GPU's memory that torch held at most.
    """

    name: str
    summary: str
    seconds: float
    resident: int | None
    accelerator: int | None


@dataclass(frozen=True)
class Training:
    """One training of a draft.

    Attributes:
        draft: The draft.
        taught: What it was taught.
        seconds: How long that took; None when it ran within something else.
        loss: Steps and training loss.
        held_out: Steps and acceptance on validation prompts.
    """

    draft: str
    taught: str
    seconds: float | None
    loss: tuple[tuple[int, float], ...]
    held_out: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Tried:
    """A draft that a search tried on a task.

    Attributes:
        task: The task.
        draft: The draft.
        promises: Predicted speed-up after each round in which it was measured.
        tokens: Answer tokens that it was trained on.
        seconds: How long that took.
        outcome: What became of it.
        kept: Whether it was trained to the end.
    """

    task: Task
    draft: str
    promises: tuple[float | None, ...]
    tokens: int
    seconds: float
    outcome: str
    kept: bool


@dataclass(frozen=True)
class SearchShown:
    """What a search over drafts tried, and what that cost.

    Attributes:
        tried: Every draft on every task.
        tokens: Answer tokens trained on.
        seconds: Time of training.
        measuring: Time of measuring.
        exhaustive: Answer tokens that training every draft to the end would have taken.
    """

    tried: tuple[Tried, ...]
    tokens: int
    seconds: float
    measuring: float
    exhaustive: int


@dataclass(frozen=True)
class Routing:
    """The router beside the truth.

    Attributes:
        source: Which prompts, and what counts as true.
        confusion: Where prompts of each task went.
        calibration: How sure it was, and how often right.
        error: Expected calibration error.
    """

    source: str
    confusion: Confusion
    calibration: tuple[CalibrationBin, ...]
    error: float | None


@dataclass(frozen=True)
class RouterLabels:
    """What the router learnt, and what its choices lose on validation prompts, as predicted.

    Attributes:
        labels: `task`, or `speed`: which way of decoding is fastest.
        threshold: Below this probability it abstains.
        prompts: Validation prompts that the regrets are of; 0 where nothing was compared.
        regrets: Ways of routing, the one in use first, each with its speed regret.
    """

    labels: str
    threshold: float
    prompts: int = 0
    regrets: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class DraftSize:
    """A draft of the bundle, and its bytes on disk."""

    name: str
    size: int


@dataclass(frozen=True)
class CertificateTest:
    """One test of a certificate.

    Attributes:
        name: What was tested.
        compared: How much of it.
        found: What came out.
        passed: Whether it passed.
    """

    name: str
    compared: str
    found: str
    passed: bool


@dataclass(frozen=True)
class CertificateShown:
    """A certificate of losslessness.

    Attributes:
        passed: Whether it was given.
        tests: What was tested.
        faults: Faults that were planted, and whether a test saw each.
        verifier: Name of the verifier that it was made with.
        bundle: Identity of the bundle that it is of; None where that has none.
        asked: Prompts, and the corpus that they are from; None where an earlier version wrote it.
    """

    passed: bool
    tests: tuple[CertificateTest, ...]
    faults: tuple[tuple[str, bool], ...]
    verifier: str
    bundle: str | None
    asked: tuple[int, str] | None = None


@dataclass(frozen=True)
class RunFacts:
    """Everything that a report shows, from one run's folder.

    Attributes:
        name: The run's name.
        place: Its folder, as it was given.
        recipe: The resolved recipe.
        settings: The same, as values.
        command: The command line that ended it; None when it was not ours.
        results: What the evaluation measured.
        tasks: What was found and chosen.
        prompts: Training and validation prompts on the map; of many, a draw.
        prompt_total: How many there are.
        positions: Acceptance by position.
        stages: What each stage took.
        trainings: Training curves.
        drafts: Drafts of the bundle.
        target_pass: Seconds of a target pass over one token.
        overhead: Host time per step, over such a pass.
        routing: Router beside truth.
        labels: What the router learnt.
        certificate: Found in the run's folder or its bundle's.
        search: Which drafts were dropped on the way; None where all were trained to the end.
    """

    name: str
    place: str
    recipe: str
    settings: Mapping[str, Any]
    command: str | None
    results: Results
    tasks: tuple[Task, ...]
    prompts: tuple[Prompt, ...]
    prompt_total: int
    positions: tuple[Positions, ...]
    stages: tuple[StageCost, ...]
    trainings: tuple[Training, ...]
    drafts: tuple[DraftSize, ...]
    target_pass: float | None
    overhead: float | None
    routing: Routing | None
    labels: RouterLabels
    certificate: CertificateShown | None
    search: SearchShown | None = None
