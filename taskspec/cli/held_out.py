"""The held-out prompts that commands answer with a bundle."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from taskspec.corpus.examples import Example
    from taskspec.evaluation.bench_ways import BenchPrompt
    from taskspec.serving.bundle import Bundle


def held_out_prompts(
    bundle: Bundle,
    folder: Path,
    corpus: str,
    count: int,
    tokens: int,
    seed: int,
    console: Console,
) -> list[BenchPrompt]:
    """Prompts of a corpus's test split, spread over its tasks; none that the bundle has seen.

    Args:
        bundle: Says how prompts are put to its target.
        folder: Where it lies, and says which prompts trained or chose its drafts.
        corpus: As in recipes.
        count: Prompts wanted.
        tokens: Room that each leaves for its answer.
        seed: Draws them, and splits where rows have no split.
        console: Where is said what is left out.

    Raises:
        CorpusError: When no prompt is held out or new to the bundle, or none leaves that room.
    """
    from taskspec.corpus.readers import read_examples
    from taskspec.corpus.splits import with_splits
    from taskspec.errors import CorpusError
    from taskspec.evaluation.bench_ways import choose_prompts
    from taskspec.recipe.corpus_path import resolve_corpus
    from taskspec.recipe.schema import CorpusConfig
    from taskspec.serving.seen import leave_out_seen, load_seen

    examples = read_examples(resolve_corpus(corpus, None))
    held_out = [e for e in with_splits(examples, CorpusConfig(corpus), seed) if e.split == "test"]
    if not held_out:
        raise CorpusError(
            f"{corpus} holds out none of its {len(examples)} prompts; mark those to use with "
            '"split": "test"'
        )
    fresh, notes = leave_out_seen(held_out, load_seen(folder))
    for note in notes:
        console.print(f"note: {note}", highlight=False, soft_wrap=True)
    if not fresh:
        raise CorpusError(
            f"the bundle has seen all {len(held_out)} held-out prompts of {corpus}; give the "
            "run's own --seed, by which rows without a `split` were held out, or other prompts"
        )
    chosen = choose_prompts(_with_room(bundle, fresh, tokens), count, seed)
    if not chosen:
        raise CorpusError(
            f"no held-out prompt of {corpus} leaves room for {tokens} tokens in the target's "
            f"context of {bundle.target.context_length}; ask for fewer --tokens"
        )
    return chosen


def typical_prompt(bundle: Bundle, corpus: str, tokens: int) -> BenchPrompt:
    """A prompt to measure costs with, which the bundle may have seen.

    Args:
        bundle: Says how prompts are put to its target.
        corpus: As in recipes.
        tokens: Room that it leaves for its answer.

    Raises:
        CorpusError: When no prompt leaves that room.
    """
    from taskspec.corpus.readers import read_examples
    from taskspec.errors import CorpusError
    from taskspec.recipe.corpus_path import resolve_corpus

    found = _with_room(bundle, read_examples(resolve_corpus(corpus, None)), tokens)
    if not found:
        raise CorpusError(
            f"no prompt of {corpus} leaves room for {tokens} tokens in the target's context of "
            f"{bundle.target.context_length}; give shorter ones with --corpus"
        )
    return sorted(found, key=lambda each: len(each.ids))[len(found) // 2]


def _with_room(bundle: Bundle, examples: Iterable[Example], tokens: int) -> list[BenchPrompt]:
    """The prompts as the target reads them, those that leave room for so many tokens."""
    from taskspec.evaluation.bench_ways import BenchPrompt

    room = bundle.target.context_length - tokens
    read = (
        BenchPrompt(
            each.id,
            each.task or "all",
            each.prompt_text,
            bundle.target.chat_ids(each.messages, bundle.manifest.system),
        )
        for each in examples
    )
    return [each for each in read if len(each.ids) <= room]
