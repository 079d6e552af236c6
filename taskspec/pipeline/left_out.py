"""A recipe with one known task left out at a time, each as a run of its own."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from taskspec.corpus.readers import read_examples
from taskspec.errors import CorpusError
from taskspec.pipeline.artifacts import digest
from taskspec.pipeline.comparing import made_by
from taskspec.pipeline.run import stages
from taskspec.pipeline.runner import run_stages
from taskspec.recipe.corpus_path import resolve_corpus
from taskspec.recipe.loading import LoadedRecipe, load_recipe
from taskspec.registry import Registry

_EVALUATE = "evaluate"


@dataclass(frozen=True)
class LeftOut:
    """A run without a task.

    Attributes:
        task: The task.
        bundle: The run's bundle.
        collected: The collect stage, which has the task's held-out prompts.
        results: Identity of what each stage made.
    """

    task: str
    bundle: Path
    collected: Path
    results: dict[str, str]


def known_tasks(loaded: LoadedRecipe, asked: Sequence[str]) -> list[str]:
    """The tasks asked for, or else all that the recipe's prompts name.

    Raises:
        CorpusError: When one has no prompts, or prompts name fewer than two tasks.
    """
    examples = read_examples(resolve_corpus(loaded.recipe.corpus.path, loaded.folder))
    known = sorted({each.task for each in examples if each.task is not None})
    if len(known) < 2:
        raise CorpusError(
            f"{loaded.recipe.corpus.path}: to leave one task out, prompts must name at least two "
            f"in `task`; they name {len(known)}"
        )
    for name in asked:
        if name not in known:
            raise CorpusError(f"no prompt has the task '{name}'; tasks are: {', '.join(known)}")
    return list(dict.fromkeys(asked)) or known


def run_without(
    loaded: LoadedRecipe,
    overrides: Sequence[str],
    tasks: Sequence[str],
    registry: Registry,
    console: Console,
) -> list[LeftOut]:
    """Run the recipe without each of some tasks, evaluation left out.

    A stage that the recipe's own run, or one of these, has made alike is taken over.

    Args:
        loaded: The recipe, with the user's changes.
        overrides: Those changes.
        tasks: Known tasks.
        registry: The plugins.
        console: Where progress is shown.

    Raises:
        TaskSpecError: As a run does.
    """
    runs, name = Path(loaded.recipe.runs), loaded.recipe.name
    others, found = [runs / name], []
    chosen = [each for each in stages(loaded.recipe.extends) if each.name != _EVALUATE]
    for task in tasks:
        console.print(f"\n[bold]without {escape(task)}[/bold]", highlight=False)
        left_out = [*loaded.recipe.corpus.leave_out, task]
        own = f"name={_run_name(name, task)}"
        settings = [*overrides, f"corpus.leave_out={json.dumps(left_out)}", own]
        context = run_stages(
            chosen, load_recipe(loaded.source, settings, registry), registry, console, others
        )
        folders = context.stage_folders
        found.append(LeftOut(task, folders["bundle"], folders["collect"], made_by(folders)))
        others.append(context.folder)
    return found


def _run_name(name: str, task: str) -> str:
    """A folder's name for each task: `c#` and `c++` are two."""
    wanted = f"{name}-without-{task}"
    cleaned = re.sub(r"[^\w.-]+", "-", wanted)
    return cleaned if cleaned == wanted else f"{cleaned}-{digest(task)[:8]}"
