"""What a pass of the compiled kernels takes, by revision of their source.

    python benchmarks/passes.py 3187281 8adeeaa .

Bare passes over the 30 layers of SmolLM2-135M's shape, random weights, after 128 tokens (or
`--before`), head and Python left out. Each revision's kernels (`.` is the working tree) are
compiled here; revisions take turns, five passes each, and cells are medians in milliseconds. The
floor is what reading the weights or multiplying by them takes, whichever is longer, at the speed at
which the same threads read memory and multiply float32 matrices in the same turns.
"""

from __future__ import annotations

import argparse
import ctypes
import itertools
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from taskspec.decoding.native.decoder import NativeDecoder

MAIN, PLACE = "kernels.cpp", "taskspec/decoding/native"
FLAGS = ("-O3", "-march=native", "-fopenmp", "-shared", "-fPIC", "-std=c++20", "-Wno-psabi")
TOKENS, TOGETHER = (1, 2, 4, 5, 8, 9, 16), 5
SIDE, READ = 1024, 1 << 28


def compile_kernels(revision: str, folder: Path) -> ctypes.CDLL:
    """The kernels of a revision, compiled in a folder."""
    folder.mkdir()
    if revision == ".":
        sources = {path.name: path.read_bytes() for path in Path(PLACE).iterdir() if path.is_file()}
    else:
        listed = _git("ls-tree", "--name-only", revision, f"{PLACE}/").decode().split()
        sources = {Path(path).name: _git("show", f"{revision}:{path}") for path in listed}
    for name, text in sources.items():
        (folder / name).write_bytes(text)
    made = folder / "kernels.so"
    subprocess.run(["g++", *FLAGS, str(folder / MAIN), "-o", str(made)], check=True)
    return ctypes.CDLL(str(made))


def _git(*asked: str) -> bytes:
    return subprocess.run(["git", *asked], check=True, capture_output=True).stdout


def run(decoder: NativeDecoder, library: ctypes.CDLL, before: int, tokens: int) -> float:
    """Milliseconds of one pass over so many tokens of one row, after others."""
    positions = torch.arange(before, before + tokens, dtype=torch.int32)
    given = decoder.open_pass(
        torch.randn(tokens, decoder.hidden),
        torch.zeros(tokens, dtype=torch.int32),
        positions,
        torch.empty(tokens, 1, decoder.hidden, dtype=torch.bfloat16),
    )
    started = time.perf_counter()
    library.run_pass(ctypes.byref(decoder.structure), ctypes.byref(given))
    return (time.perf_counter() - started) * 1e3


def run_machine(matrix: torch.Tensor, block: torch.Tensor) -> tuple[float, float]:
    """Multiplications a second of float32 matrices, and bytes a second of reading memory."""
    started = time.perf_counter()
    matrix @ matrix
    multiplied = time.perf_counter()
    block.sum().item()
    read = time.perf_counter() - multiplied
    return matrix.shape[0] ** 3 / (multiplied - started), block.nbytes / read


def main() -> None:
    """Compile, take turns, print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("revisions", nargs="+", help="of git, or . for the working tree")
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--before", type=int, nargs="+", default=[128], help="tokens of context")
    asked = parser.parse_args()
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        max_position_embeddings=2**17,
    )
    model: Any = LlamaForCausalLM(config).bfloat16()
    decoder = NativeDecoder(model.model, 1, max(asked.before) + max(TOKENS))
    with tempfile.TemporaryDirectory() as scratch:
        libraries = {
            revision: compile_kernels(revision, Path(scratch) / str(number))
            for number, revision in enumerate(dict.fromkeys(asked.revisions))
        }
        weights = sum(each.numel() for each in model.model.layers.parameters() if each.dim() == 2)
        matrix, block = torch.randn(SIDE, SIDE), torch.ones(READ)
        print(f"| before | tokens | {' | '.join(libraries)} | floor | GB/s | GFLOP/s |")
        print(f"|---|---|{'---|' * len(libraries)}---|---|---|")
        for before, tokens in itertools.product(asked.before, TOKENS):
            found: dict[str, list[float]] = {revision: [] for revision in libraries}
            machine = []
            for _ in range(asked.rounds):
                machine.append(run_machine(matrix, block))
                for revision, library in libraries.items():
                    found[revision] += [
                        run(decoder, library, before, tokens) for _ in range(TOGETHER)
                    ]
            multiplied, read = (statistics.median(speeds) for speeds in zip(*machine, strict=True))
            floor = 1e3 * max(2 * weights / read, weights * tokens / multiplied)
            cells = [statistics.median(times) for times in found.values()]
            cells += [floor, read / 1e9, 2 * multiplied / 1e9]
            shown = " | ".join(f"{cell:.1f}" for cell in cells)
            print(f"| {before:,} | {tokens} | {shown} |", flush=True)


if __name__ == "__main__":
    main()
