"""A target of a given shape with random weights, for measurements of speed.

    python benchmarks/random_model.py random-1b
    taskspec bench train random-1b --device cuda --layers 16 --vocabulary 0 --batch-tokens 16384

The shape is that of Llama-3.2-1B unless told otherwise; the tokenizer is another model's, whose
ids are all below the vocabulary's size.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from taskspec.models.loading import load_tokenizer


def main() -> None:
    """Write the model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--hidden", type=int, default=2048)
    parser.add_argument("--layers", type=int, default=16)
    parser.add_argument("--intermediate", type=int, default=8192)
    parser.add_argument("--heads", type=int, default=32)
    parser.add_argument("--key-value-heads", type=int, default=8)
    parser.add_argument("--vocabulary", type=int, default=128_256)
    parser.add_argument("--tokenizer", default="smollm2-135m-instruct-q4_1")
    arguments = parser.parse_args()
    tokenizer = load_tokenizer(arguments.tokenizer)
    config = LlamaConfig(
        vocab_size=arguments.vocabulary,
        hidden_size=arguments.hidden,
        intermediate_size=arguments.intermediate,
        num_hidden_layers=arguments.layers,
        num_attention_heads=arguments.heads,
        num_key_value_heads=arguments.key_value_heads,
        max_position_embeddings=8192,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(arguments.folder)
    tokenizer.save_pretrained(arguments.folder)
    count = sum(parameter.numel() for parameter in model.parameters())
    print(f"wrote {arguments.folder}: {count / 1e9:.2f}e9 parameters")


if __name__ == "__main__":
    main()
