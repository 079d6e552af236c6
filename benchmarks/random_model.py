"""Targets of known shapes with random weights, for measurements of speed.

    python benchmarks/random_model.py random-1b
    taskspec bench train random-1b --device cuda --layers 16 --vocabulary 0 --batch-tokens 16384

The shapes are those of SmolLM2-135M, Llama-3.2-1B and Llama-3.1-8B; the tokenizer is another
model's, whose ids are all below the vocabulary's size.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from taskspec.models.loading import load_tokenizer

SHAPES: dict[str, dict[str, Any]] = {
    "135m": {
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "vocab_size": 49_152,
        "tie_word_embeddings": True,
    },
    "1b": {
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128_256,
        "tie_word_embeddings": True,
    },
    "8b": {
        "hidden_size": 4096,
        "intermediate_size": 14_336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128_256,
        "tie_word_embeddings": False,
    },
}


def random_model(shape: str, device: str, **changes: Any) -> Any:
    """A bf16 causal LM of one of the shapes."""
    config = LlamaConfig(**SHAPES[shape], max_position_embeddings=8192, **changes)
    torch.manual_seed(0)
    with torch.device(device):
        untyped: Any = AutoModelForCausalLM
        return untyped.from_config(config, dtype=torch.bfloat16).eval()


def main() -> None:
    """Write a model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--shape", default="1b", choices=SHAPES)
    parser.add_argument("--tokenizer", default="smollm2-135m-instruct-q4_1")
    arguments = parser.parse_args()
    tokenizer = load_tokenizer(arguments.tokenizer)
    ids = ("bos_token_id", "eos_token_id", "pad_token_id")
    special = {name: getattr(tokenizer, name) for name in ids}
    model = random_model(arguments.shape, "cpu", **special)
    model.save_pretrained(arguments.folder)
    tokenizer.save_pretrained(arguments.folder)
    count = sum(parameter.numel() for parameter in model.parameters())
    print(f"wrote {arguments.folder}: {count / 1e9:.2f}e9 parameters")


if __name__ == "__main__":
    main()
