"""A whole run small enough for a test: a random target, two made-up tasks."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest

RECIPE = """\
name: tiny
target: {{model: {model}, dtype: float32, device: cpu}}
corpus: {{path: {corpus}}}
collect: {{max_new_tokens: 12, batch_size: 4, free_text_tokens: 600}}
encode: {{use: tfidf, options: {{dimensions: 8, merge_numbers: false}}}}
partition: {{use: kmeans, options: {{clusters: 2}}}}
draft:
  pool:
    small: {{use: causal-lm, options: {{layers: 2, vocabulary: 64}}}}
    lookup: prompt-lookup
align:
  use: {aligner}
  tokens: 400
  batch_tokens: 64
  trainer: {{accelerator: cpu, devices: "1", precision: 32-true}}
assign: {{draft_lengths: [1, 2], prompts_per_task: 2, max_new_tokens: 8, margin: {margin}}}
route:
  use: logistic
  encoder: {{use: tfidf, options: {{dimensions: 8, merge_numbers: false}}}}
evaluate: {{prompts_per_task: 2, max_new_tokens: 8, repeats: 2, resamples: 200}}
"""


def write_corpus(path: Path) -> Path:
    """Prompts of two tasks with words of their own."""
    generator = random.Random(0)
    rows = []
    for task, words in (("low", range(0, 12)), ("high", range(45, 57))):
        for split, count in (("train", 16), ("validation", 3), ("test", 4)):
            for index in range(count):
                text = " ".join(f"w{generator.choice(words)}" for _ in range(10))
                rows.append(
                    {
                        "id": f"{task}-{split}-{index}",
                        "task": task,
                        "split": split,
                        "messages": [{"role": "user", "content": text}],
                    }
                )
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def write_recipe(tmp_path: Path, tiny_llama_folder: Path) -> Callable[..., Path]:
    """A function that writes the tiny recipe and its corpus into the test's folder."""

    def write(aligner: str = "lora-kd", margin: float = 0.0) -> Path:
        corpus = write_corpus(tmp_path / "prompts.jsonl")
        path = tmp_path / "tiny.yaml"
        path.write_text(
            RECIPE.format(model=tiny_llama_folder, corpus=corpus, aligner=aligner, margin=margin)
        )
        return path

    return write
