"""Requests answered by the target or a server: shard by shard, and none twice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from taskspec.corpus.answers import StoredAnswer, read_answers, write_answers
from taskspec.corpus.journal import read_journal
from taskspec.decoding.engine import Engine
from taskspec.decoding.prefixes import shared_prefixes
from taskspec.decoding.records import Generation, Request
from taskspec.errors import ArtifactError
from taskspec.models.fingerprint import model_fingerprint
from taskspec.pipeline.artifacts import (
    check_files,
    digest,
    left_behind,
    read_done,
    read_json,
    write_json,
)
from taskspec.pipeline.asking import ask_all
from taskspec.pipeline.context import RunContext, plain
from taskspec.pipeline.progress import progress
from taskspec.pipeline.verifiers import plain_verifier
from taskspec.recipe.schema import CollectConfig
from taskspec.training.teacher import top_tokens

ANSWERS, FREE = "answers", "free"
_SHARD_BATCHES = 4
_ACCOUNTING, _ASKED = "accounting.json", "asked.json"


def target_settings(context: RunContext) -> dict[str, Any]:
    """The target as answers depend on it: what it is, not where it lies."""
    settings: dict[str, Any] = plain(context.recipe.target)
    del settings["model"]
    return {**settings, "weights": model_fingerprint(context.recipe.target.model)}


def answer_settings(config: CollectConfig) -> dict[str, Any]:
    """What the answers depend on; who gave them, not how hard it was asked.

    Prompts that are too long are refused, and so change no answer.
    """
    settings: dict[str, Any] = plain(config)
    del settings["endpoint"], settings["max_prompt_tokens"]
    asked = {"endpoint": {"model": config.endpoint.model}} if config.endpoint.url else {}
    return {**settings, **asked}


def answer_all(
    context: RunContext,
    folder: Path,
    name: str,
    requests: Sequence[Request],
    known: Sequence[StoredAnswer],
    label: str,
    check: Callable[[Sequence[StoredAnswer]], None] = lambda answers: None,
) -> list[StoredAnswer]:
    """Have the target, or the recipe's server, answer what is not known.

    Args:
        context: The run.
        folder: Where shards of answers go; those that an interrupted attempt wrote are kept.
        name: How they are called.
        requests: What to answer.
        known: Answers that are there.
        label: What to call the work.
        check: Told of all answers when a server has given its own; what it refuses is asked again
            by the same command.
    """
    there = {each.id for each in known}
    left = [request for request in requests if request.id not in there]
    if not left:
        return list(known)
    shards = f"{name}-after-{len(known)}" if known else name
    if not context.recipe.collect.endpoint.url:
        return [*known, *_answer(context, folder, shards, left, label)]
    may_fail = context.recipe.collect.endpoint.max_failed * len(requests)

    def check_all(answers: Sequence[StoredAnswer]) -> None:
        check([*known, *answers])

    return [*known, *_ask(context, folder, shards, left, label, may_fail, check_all)]


def answers_before(
    context: RunContext, earlier: Path, folder: Path, name: str, requests: Sequence[Request]
) -> list[StoredAnswer]:
    """Answers to requests that the stage gave under an earlier recipe; notes what they depend on.

    They are written to the folder first, so that an attempt that goes on has the same ones.

    Args:
        context: The run.
        earlier: The stage's folder, finished or with an interrupted attempt beside it, or neither.
        folder: Where the stage works.
        name: `answers`, which are known by the prompt, or `free` text, by its number.
        requests: What is to be answered.
    """
    asked = read_json(folder / _ASKED) if (folder / _ASKED).exists() else {}
    if name not in asked:
        key = _key(context, name)
        known = {**_stored(left_behind(earlier), name, key), **_finished(earlier, name, key)}
        found = [
            replace(known[place], id=request.id)
            for request in requests
            if (place := _place(name, request.id, request.prompt)) in known
        ]
        # Beside those of a run that this one extends.
        number = len(list(folder.glob(f"{name}-before-*")))
        file = f"{name}-before-{number}.safetensors" if found else None
        if file is not None:
            write_answers(folder / file, found)
        asked[name] = {"key": key, "before": file}
        write_json(folder / _ASKED, asked)
    before = asked[name]["before"]
    return [] if before is None else read_answers(folder / before)


def _key(context: RunContext, name: str) -> str:
    """What answers depend on besides their prompts, and free text besides its number."""
    settings = answer_settings(context.recipe.collect)
    del settings["free_text_tokens"], settings["batch_size"]
    seed = context.recipe.seed if name == FREE else None
    return digest({"target": target_settings(context), "collect": settings, "seed": seed})


def _place(name: str, number: str, prompt: tuple[int, ...]) -> Any:
    return (number, prompt) if name == FREE else prompt


def _finished(folder: Path, name: str, key: str) -> dict[Any, StoredAnswer]:
    """The same of a finished stage; none when it was altered."""
    done = read_done(folder)
    if done is None or _ASKED not in done.files:
        return {}
    try:
        check_files(folder, done, [each for each in done.files if each.startswith(f"{name}-")])
    except ArtifactError:
        return {}
    return _stored(folder, name, key)


def _stored(folder: Path, name: str, key: str) -> dict[Any, StoredAnswer]:
    """Answers in a folder by what they are known by; none when they depend on something else."""
    try:
        if read_json(folder / _ASKED).get(name, {}).get("key") != key:
            return {}
        answers = list(load_answers(folder, name).values())
        for journal in sorted(folder.glob(f"{name}*.jsonl")):
            answers += read_journal(journal).values()
    except ArtifactError:
        return {}
    return {_place(name, each.id, each.prompt_ids): each for each in answers}


def _answer(
    context: RunContext, folder: Path, name: str, requests: Sequence[Request], label: str
) -> list[StoredAnswer]:
    """Decode requests shard by shard; shards that an interrupted attempt wrote are kept."""
    batch = context.recipe.collect.batch_size
    size = batch * _SHARD_BATCHES
    shards = [requests[start : start + size] for start in range(0, len(requests), size)]
    answers: list[StoredAnswer] = []
    engine: Engine | None = None
    finished = [path for i in range(len(shards)) if (path := _shard(folder, name, i)).exists()]
    done = min(len(requests), len(finished) * size)
    with progress(context.console, label, len(requests), done) as advance:
        for index, shard in enumerate(shards):
            path = _shard(folder, name, index)
            if not path.exists():
                # Kept from shard to shard: it has packed weights, a cache and, on a GPU, captures.
                engine = engine or _engine(context, requests)
                generations = engine.generate(shard, batch, on_finish=lambda _: advance(1))
                pairs = zip(shard, generations, strict=True)
                write_answers(path, [_store(context, *pair) for pair in pairs])
            answers.extend(read_answers(path))
    return answers


def _ask(
    context: RunContext,
    folder: Path,
    name: str,
    requests: Sequence[Request],
    label: str,
    may_fail: float,
    check: Callable[[Sequence[StoredAnswer]], None],
) -> list[StoredAnswer]:
    """Have the recipe's endpoint answer; writes shards and what became of every request."""
    accounted, journal = folder / f"{name}-{_ACCOUNTING}", folder / f"{name}.jsonl"
    if accounted.exists():
        journal.unlink(missing_ok=True)
        return list(load_answers(folder, name).values())
    endpoint = context.recipe.collect.endpoint
    model = endpoint.model or context.recipe.target.model
    with progress(context.console, label, len(requests)) as advance:
        answers, accounting = ask_all(
            context.target, model, endpoint, requests, journal, advance, may_fail
        )
    check(answers)
    size = context.recipe.collect.batch_size * _SHARD_BATCHES
    for index, start in enumerate(range(0, len(answers), size)):
        write_answers(_shard(folder, name, index), answers[start : start + size])
    write_json(accounted, asdict(accounting))
    journal.unlink()
    return answers


def describe_asking(folder: Path) -> str:
    """What to say of the prompts that an endpoint was to answer; nothing when it was not asked."""
    path = next(iter(sorted(folder.glob(f"{ANSWERS}*{_ACCOUNTING}"))), None)
    if path is None:
        return ""
    value = read_json(path)
    return (
        f"; the server answered {value['success']} of {value['input']} prompts, "
        f"{value['error']} failed, {value['skipped']} not asked"
    )


def _shard(folder: Path, name: str, index: int) -> Path:
    return folder / f"{name}-{index:04d}.safetensors"


def _engine(context: RunContext, requests: Sequence[Request]) -> Engine:
    """Decodes requests plainly, and keeps the target's states where the recipe wants them."""
    verifier = plain_verifier(context.registry, requests[0].sampling.greedy)
    keep = context.recipe.collect.signal != "none"
    prefixes = shared_prefixes(request.prompt for request in requests)
    return Engine(context.target, verifier, keep_hidden=keep, prefixes=prefixes)


def _store(context: RunContext, request: Request, generation: Generation) -> StoredAnswer:
    config, target = context.recipe.collect, context.target
    answer = StoredAnswer(
        id=request.id,
        prompt_ids=request.prompt,
        answer_ids=generation.tokens,
        finished=generation.finish == "eos",
        hidden=generation.hidden,
        log_normalizer=generation.log_normalizer,
    )
    if config.signal != "top-k":
        return answer
    assert answer.hidden is not None and answer.log_normalizer is not None
    hidden, normalizer = answer.hidden.to(target.device), answer.log_normalizer.to(target.device)
    top = top_tokens(hidden, normalizer, target.head, config.top_k).to(torch.device("cpu"))
    return replace(answer, hidden=None, log_normalizer=None, top=top)


def load_answers(folder: Path, name: str = ANSWERS, signal: bool = True) -> dict[str, StoredAnswer]:
    """Stored answers (or `free` text) by prompt id, from the stage's folder.

    Args:
        folder: The stage's folder.
        name: How they are called.
        signal: Whether to read the teacher signal, too.
    """
    return {
        answer.id: answer
        for path in sorted(folder.glob(f"{name}-*.safetensors"))
        for answer in read_answers(path, signal)
    }
