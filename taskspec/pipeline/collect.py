"""Stage 1: the target answers the prompts, and leaves its teacher signal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskspec.corpus.answers import StoredAnswer
from taskspec.corpus.examples import Example, Message
from taskspec.corpus.readers import read_examples
from taskspec.corpus.splits import check_left_out, copies_left_out, split_examples
from taskspec.decoding.records import Request
from taskspec.errors import CorpusError, ModelError
from taskspec.interfaces import Sampling
from taskspec.pipeline.answering import (
    ANSWERS,
    FREE,
    answer_all,
    answer_settings,
    answers_before,
    describe_asking,
    target_settings,
)
from taskspec.pipeline.artifacts import read_json, write_json
from taskspec.pipeline.context import RunContext, plain
from taskspec.pipeline.draft_checks import check_drafts
from taskspec.pipeline.stage import Stage
from taskspec.recipe.corpus_path import corpus_digest, resolve_corpus
from taskspec.recipe.schema import CorpusConfig

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

EXAMPLES = "examples.json"


class Collect(Stage):
    """Answers the training and validation prompts greedily; held-out prompts are not touched.

    Besides the answers it keeps what `collect.signal` says of the target at every answer token:
    the final hidden state and log-normalizer, from which its whole distribution can be recomputed
    exactly, its likeliest tokens, or nothing. For drafts cut from the target it samples free
    text: the target itself opens and continues a conversation, on nobody's prompts. What it said
    under an earlier recipe of the run, to the same prompts, it is not asked again.
    """

    name = "collect"
    salvages = True

    def settings(self, context: RunContext) -> Any:
        """Target, prompts and how they are answered."""
        recipe = context.recipe
        return {
            "target": target_settings(context),
            "corpus": _corpus_settings(recipe.corpus),
            "content": corpus_digest(_corpus(context)),
            "collect": answer_settings(recipe.collect),
            "splits": "by text",
            "seed": recipe.seed,
        }

    def run(self, context: RunContext, folder: Path) -> str:
        """Write `examples.json`, `answers-*.safetensors` and `free-*.safetensors`."""
        recipe = context.recipe
        read = read_examples(_corpus(context))
        examples = split_examples(read, recipe.corpus, recipe.seed)
        copies = copies_left_out(read)
        check_left_out(examples, recipe.corpus.leave_out)
        check_drafts(context)
        requests = self._requests(context, examples)
        known = self.known(context, folder, ANSWERS, requests)

        def check(answers: Sequence[StoredAnswer]) -> None:
            _check_answered(_answered(examples, answers))

        label = "answering prompts"
        answers = answer_all(context, folder, ANSWERS, requests, known, label, check)
        wanted = self._free_requests(context)
        begun = self.known(context, folder, FREE, wanted)
        free = answer_all(context, folder, FREE, wanted, begun, "sampling free text")
        examples = _answered(examples, answers)
        write_json(folder / EXAMPLES, [_as_json(example) for example in examples])
        tokens = sum(len(answer.answer_ids) for answer in answers)
        counts = {split: sum(e.split == split for e in examples) for split in _SPLITS}
        return (
            f"{counts['train']} training, {counts['validation']} validation, {counts['test']} "
            f"held-out prompts; {tokens:,} answer tokens, "
            f"{sum(len(text.answer_ids) for text in free):,} tokens of free text"
            f"{describe_asking(folder)}"
            + (f"; {copies}" if copies else "")
            + (f"; {len(known)} prompts were answered before" if known else "")
        )

    def known(
        self, context: RunContext, folder: Path, name: str, requests: Sequence[Request]
    ) -> list[StoredAnswer]:
        """Answers (or `free` text) that are there before the target is asked.

        They are of what the stage made of another recipe: with fewer prompts, say.
        """
        earlier = context.stage_folders[self.name]
        return answers_before(context, earlier, folder, name, requests)

    def _requests(self, context: RunContext, examples: Sequence[Example]) -> list[Request]:
        """Requests for training and validation prompts, shortest first within each shard's reach.

        Every split's prompts are checked for length, so that evaluation cannot fail on one later.
        """
        config = context.recipe.collect
        requests, too_long = [], []
        for example in examples:
            ids = context.target.chat_ids(example.messages, context.recipe.target.system)
            most = min(config.max_prompt_tokens, context.target.context_length - 1)
            if len(ids) > most:
                too_long.append(f"{example.id} ({len(ids)})")
            elif example.split != "test":
                requests.append(Request(example.id, ids, config.max_new_tokens))
        if too_long:
            shown = ", ".join(too_long[:5]) + (", ..." if len(too_long) > 5 else "")
            raise CorpusError(
                f"{len(too_long)} prompts have more than {most} tokens: {shown}; shorten them or "
                "raise collect.max_prompt_tokens (at most the model's context, "
                f"{context.target.context_length})"
            )
        return sorted(requests, key=lambda request: len(request.prompt))

    def _free_requests(self, context: RunContext) -> list[Request]:
        config, prefix = context.recipe.collect, context.target.free_text_prefix()
        length = min(256, context.target.context_length - len(prefix))
        count = -(-config.free_text_tokens // length)
        seed = context.recipe.seed * 1_000_003
        return [
            Request(
                f"free-{index:05d}",
                prefix,
                length,
                Sampling(temperature=1.0),
                seed=seed + index,
                ignore_eos=True,
            )
            for index in range(count)
        ]


def _answered(examples: Sequence[Example], answers: Sequence[StoredAnswer]) -> list[Example]:
    """The prompts that a run goes on with: held-out ones, and others that have an answer."""
    there = {each.id for each in answers}
    return [each for each in examples if each.split == "test" or each.id in there]


def _check_answered(examples: Sequence[Example]) -> None:
    """Refuse to go on when a server left too few prompts with an answer.

    Raises:
        ModelError: Saying how many there are.
    """
    train, validation = (sum(e.split == split for e in examples) for split in _SPLITS[:2])
    if train < 2 or not validation:
        raise ModelError(
            f"the server answered {train} training and {validation} validation prompts, too few to "
            "go on; see to it and run the same command again, which asks for the others"
        )


def _corpus_settings(config: CorpusConfig) -> dict[str, Any]:
    """Which prompts there are: what the file says, wherever it lies.

    Tasks that are left out of what follows are answered, too.
    """
    settings: dict[str, Any] = plain(config)
    del settings["path"], settings["leave_out"]
    return settings


def _corpus(context: RunContext) -> Traversable:
    return resolve_corpus(context.recipe.corpus.path, context.loaded.folder)


_SPLITS = ("train", "validation", "test")


def _as_json(example: Example) -> dict[str, Any]:
    return {
        "id": example.id,
        "split": example.split,
        "task": example.task,
        "messages": [{"role": m.role, "content": m.content} for m in example.messages],
    }


def load_examples(folder: Path) -> list[Example]:
    """The run's prompts with their splits, from the stage's folder."""
    return [
        Example(
            id=row["id"],
            messages=tuple(Message(m["role"], m["content"]) for m in row["messages"]),
            split=row["split"],
            task=row["task"],
        )
        for row in read_json(folder / EXAMPLES)
    ]
