"""Stage 2: texts become vectors."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from taskspec.corpus.cleaning import clean_text
from taskspec.corpus.examples import Example
from taskspec.errors import CorpusError
from taskspec.interfaces import Encoder
from taskspec.pipeline.collect import load_answers, load_examples
from taskspec.pipeline.context import RunContext
from taskspec.pipeline.stage import Stage
from taskspec.recipe.plugins import make_plugin


class Encode(Stage):
    """Encodes the training and validation prompts, with their answers if the recipe says so."""

    name = "encode"
    needs = ("collect",)

    def settings(self, context: RunContext) -> Any:
        """The encoder and the text it reads."""
        choice, left_out = context.recipe.encode, context.recipe.corpus.leave_out
        return {
            "encoder": context.plugin_identity("encoder", choice),
            "text": choice.text,
            "clean": choice.clean,
            **({"leave_out": left_out} if left_out else {}),
        }

    def run(self, context: RunContext, folder: Path) -> str:
        """Write `encoder/` and `vectors.safetensors` (one float32 row per prompt, in order)."""
        _check_left_out(context)
        examples = known_examples(context)
        texts = partition_texts(context, examples)
        if context.recipe.encode.clean:
            texts = [clean_text(text) for text in texts]
        encoder = make_plugin(context.registry, "encoder", context.recipe.encode)
        assert isinstance(encoder, Encoder)
        encoder.fit([t for t, e in zip(texts, examples, strict=True) if e.split == "train"])
        vectors = encoder.encode(texts)
        (folder / "encoder").mkdir(exist_ok=True)
        encoder.save(folder / "encoder")
        save_file({"vectors": vectors.astype(np.float32)}, folder / "vectors.safetensors")
        return f"{len(texts)} texts, {vectors.shape[1]} dimensions, by {encoder.name}"


def known_examples(context: RunContext) -> list[Example]:
    """The training and validation prompts, in the corpus's order; those left out are not known."""
    examples = load_examples(context.stage_folders["collect"])
    left_out = context.recipe.corpus.leave_out
    return [each for each in examples if each.split != "test" and each.task not in left_out]


def _check_left_out(context: RunContext) -> None:
    """Refuse to leave out tasks that no prompt has, or so many that too few prompts stay.

    Raises:
        CorpusError: Naming the tasks there are.
    """
    left_out = context.recipe.corpus.leave_out
    if not left_out:
        return
    tasks = {each.task for each in load_examples(context.stage_folders["collect"])} - {None}
    named = ", ".join(sorted(map(str, tasks))) or "none; prompts have no `task`"
    unknown = [task for task in left_out if task not in tasks]
    if unknown:
        raise CorpusError(
            f"corpus.leave_out: no prompt has the task '{unknown[0]}'; tasks are: {named}"
        )
    counts = Counter(example.split for example in known_examples(context))
    if counts["train"] < 2 or not counts["validation"]:
        raise CorpusError(
            f"corpus.leave_out leaves {counts['train']} training and {counts['validation']} "
            f"validation prompts, too few to work with; tasks are: {named}"
        )


def partition_texts(context: RunContext, examples: list[Example]) -> list[str]:
    """What partitioning reads of each prompt, before any cleaning."""
    prompts = [example.prompt_text for example in examples]
    if context.recipe.encode.text == "prompt":
        return prompts
    answers = load_answers(context.stage_folders["collect"])
    tokenizer = context.target.tokenizer
    return [
        prompt + "\n" + tokenizer.decode(answers[e.id].answer_ids, skip_special_tokens=True)
        for prompt, e in zip(prompts, examples, strict=True)
    ]


def load_vectors(folder: Path) -> NDArray[np.float32]:
    """The stage's vectors, float32 [N, D]."""
    vectors: NDArray[np.float32] = load_file(folder / "vectors.safetensors")["vectors"]
    return vectors
