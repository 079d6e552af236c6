"""Stage 2: texts become vectors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from taskspec.corpus.cleaning import clean_text
from taskspec.corpus.examples import Example
from taskspec.corpus.splits import check_left_out, known_prompts
from taskspec.decoding.prefixes import Prefixes, shared_prefixes
from taskspec.interfaces import Encoder
from taskspec.pipeline.answering import load_answers
from taskspec.pipeline.collect import load_examples
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
        left_out = context.recipe.corpus.leave_out
        if left_out:
            # Collecting may have been done before, with other tasks left out.
            check_left_out(load_examples(context.stage_folders["collect"]), left_out)
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
    return known_prompts(examples, context.recipe.corpus.leave_out)


def known_prefixes(context: RunContext) -> Prefixes:
    """The prefixes that known prompts share."""
    answers = load_answers(context.stage_folders["collect"], signal=False)
    return shared_prefixes(answers[each.id].prompt_ids for each in known_examples(context))


def partition_texts(context: RunContext, examples: list[Example]) -> list[str]:
    """What partitioning reads of each prompt, before any cleaning."""
    prompts = [example.prompt_text for example in examples]
    if context.recipe.encode.text == "prompt":
        return prompts
    answers = load_answers(context.stage_folders["collect"], signal=False)
    tokenizer = context.target.tokenizer
    return [
        prompt + "\n" + tokenizer.decode(answers[e.id].answer_ids, skip_special_tokens=True)
        for prompt, e in zip(prompts, examples, strict=True)
    ]


def load_vectors(folder: Path) -> NDArray[np.float32]:
    """The stage's vectors, float32 [N, D]."""
    vectors: NDArray[np.float32] = load_file(folder / "vectors.safetensors")["vectors"]
    return vectors
