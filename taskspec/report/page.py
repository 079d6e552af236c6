"""Facts as one HTML file that loads nothing: no script, no font, no image from elsewhere."""

from __future__ import annotations

import shlex
from functools import cache
from typing import TYPE_CHECKING

from taskspec import __version__
from taskspec.report.compare import Comparison
from taskspec.report.facts import RunFacts, Task
from taskspec.report.figures import Axis, curve, map_place
from taskspec.report.wording import bytes_text, duration, headline, how_chosen, lead, speedup

if TYPE_CHECKING:
    from jinja2 import Environment

_COLOURS = _SHAPES = 8


def render_run(facts: RunFacts) -> str:
    """The report of one run."""
    drafted = [task for task in facts.tasks if task.measured is not None]
    ends = [end for row in facts.results.rows for end in (row.speedup_low, row.speedup_high)]
    ends += [end for task in drafted if (m := task.measured) for end in (m.low, m.high)]
    ends += [c.predicted for task in facts.tasks for c in task.candidates if c.chosen]
    return (
        _environment()
        .get_template("run.html")
        .render(
            facts=facts,
            results=facts.results,
            headline=headline(facts.results),
            lead=lead(facts.results),
            how_chosen=how_chosen(facts.settings["assign"]),
            axis=Axis.over([1.0, *ends]),
            totals={
                "seconds": sum(stage.seconds for stage in facts.stages),
                "longest": max((stage.seconds for stage in facts.stages), default=0.0),
                "largest": max((draft.size for draft in facts.drafts), default=0),
            },
            known=_known_marks(facts),
        )
    )


def render_comparison(comparison: Comparison) -> str:
    """Two runs side by side."""
    rows = comparison.speedups
    ends = [end for row in rows for each in (row.first, row.second) if each for end in each.ends]
    template = _environment().get_template("comparison.html")
    return template.render(comparison=comparison, axis=Axis.over([1.0, *ends]))


def mark(label: int) -> dict[str, int]:
    """Colour and shape of a task; no two of the first 64 share both."""
    return {"colour": label % _COLOURS, "shape": (label + label // _COLOURS) % _SHAPES}


def _known_marks(facts: RunFacts) -> dict[str, Task]:
    """The found task that stands for each row of the tables, where it is only one."""
    by_name = {task.name: task for task in facts.tasks}
    return {
        row.task: by_name[row.found[0]]
        for row in facts.results.tasks
        if len(row.found) == 1 and row.found[0] in by_name
    }


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("taskspec.report", "pages"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters |= {
        "bytes": bytes_text,
        "duration": duration,
        "times": speedup,
        "curve": curve,
        "place": map_place,
        "mark": mark,
        "shell": shlex.quote,
    }
    environment.globals["version"] = __version__
    return environment
