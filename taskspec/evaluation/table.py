"""The results of a run: as JSON and as tables."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from taskspec.corpus.examples import ALL_TASKS


@dataclass(frozen=True)
class ResultRow:
    """One method on one task, or on `all`; definitions in docs/metrics.

    Attributes:
        method: `plain`, `vanilla`, `single`, `best-single`, `prompt-lookup`, `random`, `routed`
            or `oracle`.
        task: Task name or `all`.
        tokens_per_second: Pooled, routing and prefills included.
        speedup: Over plain decoding.
        speedup_low: Lower end of its 95 % interval.
        speedup_high: Upper end.
        block_efficiency: Tokens per verification pass; 1 for plain decoding.
        acceptance_rate: Accepted over drafted tokens at the draft length in use.
        draft_accuracy: u_1 with the draft length forced to 4.
        draft_length: Draft length in use; None where prompts differ.
        prompts: Number of prompts.
        tokens: Number of tokens.
    """

    method: str
    task: str
    tokens_per_second: float
    speedup: float
    speedup_low: float
    speedup_high: float
    block_efficiency: float | None
    acceptance_rate: float | None
    draft_accuracy: float | None
    draft_length: int | None
    prompts: int
    tokens: int


@dataclass(frozen=True)
class Lossless:
    """Greedy answers compared with plain decoding's, token for token.

    Attributes:
        checked: Prompts compared.
        mismatches: Prompts whose answers differ.
        dtype: The dtype of the comparison.
    """

    checked: int
    mismatches: int
    dtype: str


@dataclass(frozen=True)
class Clustering:
    """Found tasks against known labels; None where prompts have no labels."""

    accuracy: float | None
    ari: float | None
    clusters: int


@dataclass(frozen=True)
class RouterScore:
    """The router on held-out prompts.

    Attributes:
        accuracy: Share sent to their true task's label; None without labels.
        draft_accuracy: Share sent to the draft assigned to their true task.
        latency_ms: Median milliseconds of encoding and routing one prompt.
        abstained: Share of prompts left to the fallback.
    """

    accuracy: float | None
    draft_accuracy: float | None
    latency_ms: float
    abstained: float


@dataclass(frozen=True)
class TaskReport:
    """What was found and chosen for one known task (or found task, without labels).

    Attributes:
        task: The task.
        found: Names of the found tasks its held-out prompts were routed to.
        drafts: Drafts that decoded them.
        overlap: Share of held-out 8-grams that occur in training prompts.
        looping: Share of looping answers.
    """

    task: str
    found: tuple[str, ...]
    drafts: tuple[str, ...]
    overlap: float
    looping: float


@dataclass(frozen=True)
class VerifierUsed:
    """The verifier behind every figure of a run.

    Attributes:
        name: Its name.
        lossless: Whether answers keep the target's distribution.
    """

    name: str
    lossless: bool


@dataclass(frozen=True)
class Results:
    """Everything a run measured.

    Attributes:
        rows: The benchmark table.
        lossless: The losslessness check.
        clustering: Found tasks against known ones.
        router: The router on held-out prompts.
        verifier: What decided which drafted tokens stand.
        tasks: Per task.
        speed_regret: 1 - S_routed / S_oracle.
        speedup_without_looping: The routed speed-up over all prompts whose answers do not loop.
        prompt_share: Share of plain decoding's seconds until first tokens, which drafts do not
            shorten; None in results of earlier versions.
        speedup_after_prompts: The routed speed-up when plain decoding's seconds until first tokens
            are taken from both; None likewise, and where no answer has a second token.
        environment: Versions and machine.
    """

    rows: tuple[ResultRow, ...]
    lossless: Lossless
    clustering: Clustering
    router: RouterScore
    verifier: VerifierUsed
    tasks: tuple[TaskReport, ...] = ()
    speed_regret: float | None = None
    speedup_without_looping: float | None = None
    prompt_share: float | None = None
    speedup_after_prompts: float | None = None
    environment: Mapping[str, Any] = field(default_factory=dict)

    def row(self, method: str, task: str = ALL_TASKS) -> ResultRow | None:
        """The row of a method on a task."""
        return next((r for r in self.rows if (r.method, r.task) == (method, task)), None)


def to_json(results: Results) -> str:
    """Results as the JSON text of `results.json`."""
    return json.dumps(asdict(results), indent=1) + "\n"


def from_json(text: str) -> Results:
    """Read what `to_json` wrote."""
    value = json.loads(text)
    tasks = tuple(
        TaskReport(**{**each, "found": tuple(each["found"]), "drafts": tuple(each["drafts"])})
        for each in value["tasks"]
    )
    return Results(
        rows=tuple(ResultRow(**row) for row in value["rows"]),
        lossless=Lossless(**value["lossless"]),
        clustering=Clustering(**value["clustering"]),
        router=RouterScore(**value["router"]),
        verifier=VerifierUsed(**value["verifier"]),
        tasks=tasks,
        speed_regret=value["speed_regret"],
        speedup_without_looping=value["speedup_without_looping"],
        prompt_share=value.get("prompt_share"),
        speedup_after_prompts=value.get("speedup_after_prompts"),
        environment=value["environment"],
    )


def render(results: Results, console: Console) -> None:
    """Print the table of methods, the table of tasks and the checks."""
    if not results.verifier.lossless:
        console.print(lossy_warning(results.verifier.name), style="bold red", soft_wrap=True)
    console.print(_method_table(results), "")
    console.print(_task_table(results), "")
    lines = [
        f"lossless   {_lossless_text(results)}",
        f"tasks      {results.clustering.clusters} found"
        + _percent(", clustering accuracy ", results.clustering.accuracy),
        f"router     {results.router.latency_ms:.2f} ms per prompt"
        + _percent(", accuracy ", results.router.accuracy)
        + _percent(", speed regret ", results.speed_regret),
        *_prompts_line(results),
        _held_out_line(results),
    ]
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    if not results.verifier.lossless:
        console.print(lossy_warning(results.verifier.name), style="bold red", soft_wrap=True)


def lossy_warning(verifier: str) -> str:
    """What every report says that used a verifier which is not lossless."""
    return (
        f"NOT LOSSLESS: the verifier '{verifier}' changes what the target says; its speed-ups "
        "compare different answers"
    )


def _lossless_text(results: Results) -> str:
    lossless = results.lossless
    if lossless.checked == 0:
        return "not checked"
    checked_by = "" if results.verifier.lossless else ", by the verifier 'greedy' instead"
    verdict = "identical" if lossless.mismatches == 0 else f"{lossless.mismatches} DIFFER"
    return (
        f"{lossless.checked} held-out prompts decoded greedily with drafts and plainly in "
        f"{lossless.dtype}{checked_by}: {verdict}"
    )


def _prompts_line(results: Results) -> list[str]:
    """What of the time drafts cannot shorten, and what they bring to the rest."""
    if results.prompt_share is None or results.speedup_after_prompts is None:
        return []
    return [
        f"prompts    {results.prompt_share:.1%} of plain decoding's time; after them routed "
        f"{results.speedup_after_prompts:.2f}x"
    ]


def _held_out_line(results: Results) -> str:
    """How far the held-out prompts are from training, and how much looping flatters."""
    overlap = max((task.overlap for task in results.tasks), default=0.0)
    looping = max((task.looping for task in results.tasks), default=0.0)
    line = f"held-out   8-gram overlap with training at most {overlap:.1%} of a task; "
    line += f"looping answers at most {looping:.1%}"
    if looping and results.speedup_without_looping is not None:
        line += f", without them routed {results.speedup_without_looping:.2f}x"
    return line


def _method_table(results: Results) -> Table:
    table = figures_table("method", "tokens/s", *_MEASURES, title="All held-out prompts")
    for row in results.rows:
        if row.task == ALL_TASKS:
            style = "bold" if row.method == "routed" else None
            table.add_row(row.method, f"{row.tokens_per_second:.1f}", *_cells(row), style=style)
    return table


def _task_table(results: Results) -> Table:
    vanilla = {task.task: results.row("vanilla", task.task) for task in results.tasks}
    trained = ("vanilla",) if any(vanilla.values()) else ()
    table = figures_table("task", *_MEASURES, *trained, title="Routed, task by task")
    table.add_column("draft", overflow="fold")
    for task in results.tasks:
        row, base = results.row("routed", task.task), vanilla[task.task]
        if row is not None:
            accuracy = [_number(None if base is None else base.draft_accuracy)] if trained else []
            drafts = escape(", ".join(task.drafts))
            table.add_row(escape(task.task), *_cells(row), *accuracy, drafts)
    return table


def figures_table(first: str, *columns: str, title: str | None = None) -> Table:
    """An empty table of names and figures; figures stay whole where a terminal is narrow."""
    table = Table(
        title=None if title is None else escape(title),
        title_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        show_edge=False,
    )
    table.add_column(first, overflow="fold")
    for name in columns:
        table.add_column(escape(name), justify="right", no_wrap=True)
    return table


_MEASURES = ("speed-up (95 %)", "per\npass", "accepted", "accuracy", "k")


def _cells(row: ResultRow) -> tuple[str, ...]:
    return (
        f"{row.speedup:.2f}x ({row.speedup_low:.2f}-{row.speedup_high:.2f})",
        _number(row.block_efficiency),
        _number(row.acceptance_rate),
        _number(row.draft_accuracy),
        "-" if row.draft_length is None else str(row.draft_length),
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _percent(label: str, value: float | None) -> str:
    return "" if value is None else f"{label}{value:.1%}"
