"""Tiny random models, made once per session, and a run small enough for a test."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

WORDS = 90
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
CHAT_TEMPLATE = (
    "{% for message in messages %}<|start|>{{ message['role'] }}\n"
    "{{ message['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)
SIZES = {
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 1,
}


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs a GPU where there is none; `gpu(interpreted=True)` runs in Triton's, too."""
    mark = item.get_closest_marker("gpu")
    if mark is None:
        return
    import torch

    interpreted = mark.kwargs.get("interpreted") and os.environ.get("TRITON_INTERPRET") == "1"
    if not (interpreted or torch.cuda.is_available()):
        pytest.skip("needs a CUDA device")


def _make_tokenizer() -> Any:
    """Words `w0`..`w86`, roles and specials; 94 tokens, so that the models' 96 rows are padded."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokens = ["<|begin|>", "<|end|>", "<|start|>", "<|unknown|>", "user", "assistant", "system"]
    tokens += [f"w{index}" for index in range(WORDS - 3)]
    inner = Tokenizer(models.WordLevel({t: i for i, t in enumerate(tokens)}, "<|unknown|>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner,
        bos_token="<|begin|>",
        eos_token="<|end|>",
        unk_token="<|unknown|>",
        additional_special_tokens=["<|start|>"],
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def _save_tiny(folder: Path, config: Any) -> Path:
    """Write a random model of this configuration, with the tiny tokenizer."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    # transformers' initial weights are so small that logits hardly depend on the text.
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.normal_(0, 0.3)
    model.save_pretrained(folder)
    _make_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_llama_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Llama with tied embeddings, 4 layers."""
    from transformers import LlamaConfig

    config = LlamaConfig(**SIZES, tie_word_embeddings=True)
    return _save_tiny(tmp_path_factory.mktemp("tiny-llama"), config)


@pytest.fixture(scope="session")
def tiny_qwen2_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Qwen2 with untied embeddings and biases, 4 layers."""
    from transformers import Qwen2Config

    config = Qwen2Config(**SIZES, tie_word_embeddings=False)
    return _save_tiny(tmp_path_factory.mktemp("tiny-qwen2"), config)


@pytest.fixture(scope="session")
def tiny_gemma3_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Gemma 3 whose first, second and third layers see 8 tokens back; the last sees all."""
    from transformers import Gemma3TextConfig

    kinds = ["sliding_attention"] * 3 + ["full_attention"]
    config = Gemma3TextConfig(**SIZES, head_dim=8, sliding_window=8, layer_types=kinds)
    return _save_tiny(tmp_path_factory.mktemp("tiny-gemma3"), config)


@pytest.fixture
def tiny_tokenizer() -> Any:
    """The tokenizer of the tiny models."""
    return _make_tokenizer()


@pytest.fixture
def save_tiny(tmp_path: Path) -> Callable[..., Path]:
    """A function that saves a tiny random model of a transformers configuration class."""

    def save(config_class: Any, **changes: Any) -> Path:
        return _save_tiny(tmp_path, config_class(**{**SIZES, **changes}))

    return save


@pytest.fixture(params=["llama", "qwen2", "gemma3"])
def tiny_folder(request: pytest.FixtureRequest) -> Path:
    """Each of the tiny models in turn."""
    folder: Path = request.getfixturevalue(f"tiny_{request.param}_folder")
    return folder


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
