"""`taskspec generate`: answer a prompt with a bundle."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from taskspec.cli.sampling_options import SEEDS, TemperatureOption
from taskspec.cli.target_option import TargetOption

if TYPE_CHECKING:
    from taskspec.serving.bundle import Answer
    from taskspec.serving.routing import Route


def generate(
    bundle: Annotated[Path, typer.Argument(help="The bundle folder of a finished run.")],
    prompt: Annotated[
        str | None, typer.Argument(help="What to ask; without it, read from standard input.")
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Cut the answer there.")] = 256,
    temperature: TemperatureOption = None,
    seed: Annotated[int, typer.Option(**SEEDS, help="Seed for sampling.")] = 0,
    stats: Annotated[bool, typer.Option("--stats", help="Show how it was decoded.")] = False,
    watch: Annotated[
        Path | None, typer.Option(help="Log for `taskspec watch`; a line is added.")
    ] = None,
    watch_prompts: Annotated[
        bool, typer.Option("--watch-prompts", help="Keep the prompt in it, for `taskspec extend`.")
    ] = False,
    target: TargetOption = None,
) -> None:
    """Answer a prompt, streaming, with the draft that its task was assigned.

    Examples:

        taskspec generate runs/quickstart/bundle "Write a Python function that reverses a list."

        echo "What is 3 times 14?" | taskspec generate runs/quickstart/bundle --stats
    """
    from taskspec.corpus.examples import Message
    from taskspec.errors import DecodingError
    from taskspec.evaluation.table import lossy_warning
    from taskspec.registry import default_registry
    from taskspec.serving.answer_log import AnswerLog, check_watching, describe_answer
    from taskspec.serving.bundle import load_bundle
    from taskspec.serving.correcting import correction_config, measure_correction

    check_watching(watch, watch_prompts)
    text = prompt if prompt is not None else sys.stdin.read()
    if not text.strip():
        raise DecodingError("the prompt is empty; give it as an argument or on standard input")
    loaded = load_bundle(bundle, default_registry(), target)
    sampling = loaded.sampling
    if temperature is not None:
        sampling = replace(sampling, temperature=temperature)

    def show(piece: str) -> None:
        sys.stdout.write(piece)
        sys.stdout.flush()

    messages = [Message("user", text)]
    correction = None
    if correction_config(loaded).use:
        typical, _ = loaded.request("0", messages, _TYPICAL_TOKENS, sampling)
        loaded.engine.check([typical])
        correction = measure_correction(loaded, replace(typical, draft=None))
    answer = loaded.answer(messages, max_new_tokens, sampling, seed, show, correction)
    sys.stdout.write("\n")
    if watch is not None:
        described = describe_answer(answer, loaded.pool, sampling.temperature)
        AnswerLog(watch, watch_prompts).add(described, messages)
    verifier = loaded.engine.verifier
    if not verifier.lossless:
        typer.secho(lossy_warning(verifier.name), err=True, fg="red", bold=True)
    if stats:
        asked = "fastest" if loaded.manifest.route.get("labels") == "speed" else "task"
        typer.echo(_describe(answer, asked), err=True)


_TYPICAL_TOKENS = 32


def _describe(answer: Answer, asked: str) -> str:
    """How an answer was decoded, on one line per fact; `asked` is what the router learnt."""
    steps, route = answer.generation.steps, answer.route
    drafted, accepted = sum(s.drafted for s in steps), sum(s.accepted for s in steps)
    emitted = sum(s.emitted for s in steps)
    routed = route.assignment.task if route.label is not None else "none (fallback)"
    chosen = route.assignment
    draft = "none (plain decoding)"
    if chosen.draft is not None and chosen.draft_length:
        draft = f"{chosen.draft}, draft length {chosen.draft_length}"
    served = answer.generation.served
    plain = served.get(None, 0)
    drafts = len(served) - (None in served)
    lines = [
        f"{asked:<18}{routed} (probability {route.probability:.2f})",
        *_distance(route),
        f"draft             {draft}",
        f"steps             {len(steps)}"
        + (f" ({plain} plain)" if 0 < plain < len(steps) else "")
        + (f", by {drafts} drafts in turn" if drafts > 1 else ""),
        f"acceptance rate   {accepted / drafted:.2f}" if drafted else "acceptance rate   -",
        f"block efficiency  {emitted / len(steps):.2f}" if steps else "block efficiency  -",
        f"tokens            {len(answer.generation.tokens)} ({answer.generation.finish})",
        f"tokens/s          {len(answer.generation.tokens) / answer.seconds:.1f} "
        "(routing and prefill included)",
    ]
    return "\n".join(lines)


def _distance(route: Route) -> list[str]:
    if route.distance is None:
        return []
    kept = "unknown: farther than known prompts" if route.unknown else "known prompts keep to 1"
    return [f"distance          {route.distance:.2f} ({kept})"]
