"""What each alignment objective brings at equal budget.

    taskspec run quickstart
    python benchmarks/objectives.py runs/quickstart --tokens 30000

Every objective trains the same recovered draft on the same answers of a finished run, in the same
order; accuracy (u_1 with the draft length forced to 4) and acceptance are measured by the engine on
validation prompts that no training saw. Prints Markdown.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from rich.console import Console

from taskspec.decoding.engine import Engine
from taskspec.decoding.records import DraftChoice, Request, StepRecord
from taskspec.evaluation.metrics import acceptance_rate, block_efficiency, draft_accuracy
from taskspec.interfaces import Aligner, Sampling, TrainableDrafter
from taskspec.pipeline.answering import load_answers
from taskspec.pipeline.context import RunContext
from taskspec.pipeline.draft import draft_folder, drafter_class, split_answers
from taskspec.pipeline.encode import known_examples
from taskspec.pipeline.speed import acceptance_steps
from taskspec.pipeline.subject import open_run
from taskspec.pipeline.verifiers import plain_verifier
from taskspec.recipe.choice import PluginChoice
from taskspec.recipe.plugins import make_plugin, make_plugin_options
from taskspec.registry import default_registry
from taskspec.training.fit import fit

OBJECTIVES: dict[str, object] = {
    "forward-kl": "forward-kl",
    "reverse-kl": "reverse-kl",
    "jensen-shannon": "jensen-shannon",
    "total-variation": "total-variation",
    "tvd++": "tvd++",
    "cross-entropy": "cross-entropy",
    "log-acceptance": "log-acceptance",
    "0.5 forward-kl + 0.5 log-acceptance": {"forward-kl": 0.5, "log-acceptance": 0.5},
}
DRAFT_LENGTH, NEW_TOKENS, BATCH = 4, 48, 32


def validation_requests(context: RunContext, most: int) -> list[Request]:
    """Prompts that chose drafts but trained none."""
    stored = load_answers(context.stage_folders["collect"])
    held = [each.id for each in known_examples(context) if each.split == "validation"][:most]
    return [Request(each, stored[each].prompt_ids, NEW_TOKENS, Sampling()) for each in held]


def measure(context: RunContext, folder: Path, draft: str, prompts: int) -> list[StepRecord]:
    """Steps of a draft on the validation prompts."""
    options = make_plugin_options(context.registry, "drafter", context.recipe.draft.pool[draft])
    loaded = drafter_class(context, draft).load(folder, context.target, options)
    engine = Engine(context.target, plain_verifier(context.registry, True), {draft: loaded})
    requests = validation_requests(context, prompts)
    choice = DraftChoice(draft, DRAFT_LENGTH)
    steps = acceptance_steps(engine, requests, choice, DRAFT_LENGTH, BATCH)
    return [step for each in steps.values() for step in each]


def align(
    context: RunContext, draft: str, options: dict[str, object], tokens: int, folder: Path
) -> float:
    """Train the base draft of a pool member; seconds it took."""
    chosen = make_plugin_options(context.registry, "drafter", context.recipe.draft.pool[draft])
    start = draft_folder(context, draft)
    drafter = drafter_class(context, draft).load(start, context.target, chosen)
    aligner = make_plugin(context.registry, "aligner", PluginChoice("kd", options))
    assert isinstance(drafter, TrainableDrafter) and isinstance(aligner, Aligner)
    recipe = context.recipe
    report = fit(
        drafter,
        aligner,
        split_answers(context, "train"),
        context.target,
        recipe.align,
        tokens,
        recipe.align.learning_rate,
        recipe.seed,
        folder / "training",
    )
    (folder / "draft").mkdir()
    aligner.export(drafter, folder / "draft")
    return report.seconds


def row(name: str, steps: list[StepRecord], seconds: float | None) -> str:
    """One line of the table."""
    took = "-" if seconds is None else f"{seconds:.0f} s"
    accuracy, rate = draft_accuracy(steps) or 0.0, acceptance_rate(steps) or 0.0
    return f"| {name} | {accuracy:.3f} | {rate:.3f} | {block_efficiency(steps):.2f} | {took} |"


def main() -> None:
    """Train and measure every objective."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--draft", default="small")
    parser.add_argument("--tokens", type=int, default=30_000)
    parser.add_argument("--prompts", type=int, default=60)
    parser.add_argument("--data", default="teacher", choices=["teacher", "student", "mixed"])
    arguments = parser.parse_args()
    context = open_run(arguments.run, default_registry(), Console())
    print("| objective | accuracy | acceptance rate, k = 4 | block efficiency | training |")
    print("|---|---|---|---|---|")
    before = measure(
        context, draft_folder(context, arguments.draft), arguments.draft, arguments.prompts
    )
    print(row("none (recovered draft)", before, None), flush=True)
    for name, objective in OBJECTIVES.items():
        with tempfile.TemporaryDirectory() as place:
            options = {"objective": objective, "data": arguments.data}
            seconds = align(context, arguments.draft, options, arguments.tokens, Path(place))
            after = measure(context, Path(place) / "draft", arguments.draft, arguments.prompts)
            print(row(name, after, seconds), flush=True)


if __name__ == "__main__":
    main()
