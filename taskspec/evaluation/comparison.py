"""Ways of answering compared on the same prompts: as JSON and as tables."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from taskspec.corpus.examples import ALL_TASKS
from taskspec.evaluation.table import ResultRow, figures_table

_COLUMNS = ("tokens/s", "speed-up (95 %)", "without\nloops", "per\npass", "accepted", "accuracy")


@dataclass(frozen=True)
class Comparison:
    """Methods on the same prompts.

    Attributes:
        rows: Every method on every task and over all.
        steady: The same over the prompts whose plain answers do not loop; empty when all do.
        looping: Share of prompts whose plain answers loop.
        notes: What a reader must know: what was left out, what means what.
        prompts: Ids of the prompts.
        prompt_hash: SHA-256 of their ids and token ids.
        speed_regret: 1 - S_routed / S_oracle; None without an oracle.
        environment: Versions, machine, seed, dtype, temperature.
        beside: Methods on every task and over all, their speed-ups over `beside_method` instead of
            plain decoding; empty where nothing else is compared with.
        beside_method: That method.
    """

    rows: tuple[ResultRow, ...]
    steady: tuple[ResultRow, ...]
    looping: float
    notes: tuple[str, ...]
    prompts: tuple[str, ...]
    prompt_hash: str
    speed_regret: float | None
    environment: Mapping[str, Any]
    beside: tuple[ResultRow, ...] = ()
    beside_method: str | None = None


def to_json(found: Comparison) -> str:
    """A comparison as JSON."""
    return json.dumps(asdict(found), indent=1) + "\n"


def from_json(text: str) -> Comparison:
    """Read what `to_json` wrote."""
    value = json.loads(text)
    for name in ("rows", "steady", "beside"):
        value[name] = tuple(ResultRow(**row) for row in value[name])
    for name in ("notes", "prompts"):
        value[name] = tuple(value[name])
    return Comparison(**value)


def render(found: Comparison, title: str, console: Console) -> None:
    """Print the methods over all prompts, then task by task, then the notes."""
    methods = _beside_table(found, title) if found.beside else _method_table(found, title)
    console.print(methods, "")
    tasks = [task for task in dict.fromkeys(row.task for row in found.rows) if task != ALL_TASKS]
    by_task = _by_task(found.rows, tasks)
    if len(tasks) > 1:
        console.print(by_task, "")
    lines = [
        f"prompts    {len(found.prompts)}, of which {found.looping:.1%} with answers that loop",
        *([] if found.speed_regret is None else [f"regret     {found.speed_regret:.1%}"]),
        *(f"note       {note}" for note in found.notes),
    ]
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True, markup=False)


def _method_table(found: Comparison, title: str) -> Table:
    steady = {row.method: row for row in found.steady if row.task == ALL_TASKS}
    table = figures_table("method", *_COLUMNS, "k", title=title)
    for row in found.rows:
        if row.task == ALL_TASKS:
            table.add_row(
                row.method,
                f"{row.tokens_per_second:.1f}",
                _speedup(row),
                _speedup(steady[row.method]) if row.method in steady and found.looping else "-",
                *map(_number, (row.block_efficiency, row.acceptance_rate, row.draft_accuracy)),
                "-" if row.draft_length is None else str(row.draft_length),
            )
    return table


def _beside_table(found: Comparison, title: str) -> Table:
    """Methods beside plain decoding and beside another method, narrow enough for a terminal."""
    beside = {row.method: row for row in found.beside if row.task == ALL_TASKS}
    other = f"beside {found.beside_method}"
    table = figures_table(
        "method", "tokens/s", "speed-up (95 %)", other, "per\npass", "k", title=title
    )
    for row in found.rows:
        if row.task == ALL_TASKS:
            table.add_row(
                row.method,
                f"{row.tokens_per_second:.1f}",
                _speedup(row),
                _difference(beside.get(row.method)),
                _number(row.block_efficiency),
                "-" if row.draft_length is None else str(row.draft_length),
            )
    return table


def _by_task(rows: Sequence[ResultRow], tasks: Sequence[str]) -> Table:
    """Speed-ups, a line per task, since tasks may be many and methods are not."""
    methods = [row.method for row in rows if row.task == ALL_TASKS and row.method != "plain"]
    table = figures_table("task", "prompts", title="Speed-up, task by task")
    for method in methods:
        table.add_column(method, justify="right")
    found = {(row.method, row.task): row for row in rows}
    for task in tasks:
        own = [found[method, task] for method in methods]
        table.add_row(escape(task), str(own[0].prompts), *(f"{row.speedup:.2f}x" for row in own))
    return table


def _speedup(row: ResultRow) -> str:
    return f"{row.speedup:.2f}x ({row.speedup_low:.2f}-{row.speedup_high:.2f})"


def _difference(row: ResultRow | None) -> str:
    """How much faster or slower than another method, in percent of its tokens per second."""
    if row is None:
        return "-"
    value, low, high = (
        100 * (each - 1) for each in (row.speedup, row.speedup_low, row.speedup_high)
    )
    return f"{value:+.0f} % ({low:+.0f} to {high:+.0f})"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
