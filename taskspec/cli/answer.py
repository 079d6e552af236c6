"""`taskspec answer`: answer a file of prompts with a bundle."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from taskspec.cli.sampling_options import SEEDS, TemperatureOption
from taskspec.cli.target_option import TargetOption

if TYPE_CHECKING:
    from taskspec.serving.bundle import Answer


def answer(
    bundle: Annotated[Path, typer.Argument(help="The bundle folder of a finished run.")],
    prompts: Annotated[Path, typer.Argument(help="Prompts, in the formats of a corpus.")],
    out: Annotated[Path, typer.Argument(help="Where answers go, a JSON object a line.")],
    batch_size: Annotated[int, typer.Option(min=1, help="Prompts decoded together.")] = 8,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Cut answers there.")] = 256,
    temperature: TemperatureOption = None,
    seed: Annotated[
        int,
        typer.Option(
            **SEEDS,
            help="Seed for sampling. Answers may differ from run to run all the same, as draft "
            "lengths follow the measured speed; their distribution does not.",
        ),
    ] = 0,
    watch: Annotated[
        Path | None, typer.Option(help="Log for `taskspec watch`; a line per answer is added.")
    ] = None,
    watch_prompts: Annotated[
        bool, typer.Option("--watch-prompts", help="Keep prompts in it, for `taskspec extend`.")
    ] = False,
    target: TargetOption = None,
) -> None:
    """Answer every prompt of a file, several at a time, each with its task's draft.

    Answers are written as they are done. The same command again goes on where one was interrupted:
    prompts whose ids have an answer already are left out.

    Examples:

        taskspec answer runs/quickstart/bundle prompts.jsonl answers.jsonl --batch-size 16

        taskspec answer runs/quickstart/bundle prompts.jsonl answers.jsonl --watch log.jsonl
    """
    from rich.console import Console

    from taskspec.corpus.readers import read_examples
    from taskspec.evaluation.table import lossy_warning
    from taskspec.files import check_apart, check_output
    from taskspec.pipeline.progress import progress
    from taskspec.registry import default_registry
    from taskspec.serving.answer_log import AnswerLog, check_watching, describe_answer
    from taskspec.serving.batches import answer_all
    from taskspec.serving.bundle import load_bundle
    from taskspec.serving.remembering import answer_memory

    check_apart({"the prompts": prompts, "their answers": out, "the log": watch})
    check_output(out, appended=True)
    check_watching(watch, watch_prompts)
    examples = read_examples(prompts)
    known = _answered(out)
    missing = [each for each in examples if each.id not in known]
    console = Console(stderr=True)
    if known:
        console.print(f"{len(examples) - len(missing)} of {len(examples)} prompts have an answer")
    if not missing:
        return
    loaded = load_bundle(bundle, default_registry(), target)
    if loaded.manifest.decode.get("remember") and answer_memory(loaded) is None:
        console.print("note: no draft of this bundle remembers answers; decode.remember has no use")
    sampling = loaded.sampling
    if temperature is not None:
        sampling = replace(sampling, temperature=temperature)
    log = None if watch is None else AnswerLog(watch, watch_prompts)
    asked = {each.id: each.messages for each in missing}
    with (
        out.open("a", encoding="utf-8") as file,
        progress(console, "answering", len(missing)) as advance,
    ):

        def write(name: str, given: Answer) -> None:
            file.write(json.dumps(_row(name, given)) + "\n")
            file.flush()
            if log is not None:
                log.add(describe_answer(given, loaded.pool, sampling.temperature), asked[name])
            advance(1)

        answer_all(loaded, missing, max_new_tokens, batch_size, sampling, seed, write)
    verifier = loaded.engine.verifier
    if not verifier.lossless:
        typer.secho(lossy_warning(verifier.name), err=True, fg="red", bold=True)


def _row(name: str, given: Answer) -> dict[str, Any]:
    route = given.route
    task = None if route.label is None else route.assignment.task
    return {"id": name, "answer": given.text, "task": task, "finish": given.generation.finish}


def _answered(out: Path) -> set[str]:
    """Ids that have an answer; a last line that was cut off is taken away.

    Raises:
        ArtifactError: When the file holds anything else.
    """
    from taskspec.errors import ArtifactError

    if not out.exists():
        return set()
    whole, newline, torn = out.read_bytes().rpartition(b"\n")
    try:
        rows = [json.loads(line) for line in whole.split(b"\n")] if newline else []
        if any(row.keys() != _KEYS for row in rows) or not torn.startswith(_START[: len(torn)]):
            raise ValueError
    except (ValueError, AttributeError):
        raise ArtifactError(f"{out} holds something else than answers; name another file") from None
    if torn:
        os.truncate(out, len(whole + newline))
    return {row["id"] for row in rows}


_KEYS = {"id", "answer", "task", "finish"}
_START = b'{"id": '
