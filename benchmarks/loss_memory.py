"""Peak memory of head, loss and gradients against the size of the vocabulary.

    python benchmarks/loss_memory.py

Each cell is a process of its own: 1,024 answer positions of width 576 in float32, forward KL
against a teacher's stored states, forward and backward; what the process held at most, less what
weights, states and teacher take. Prints Markdown.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from typing import Any

POSITIONS, WIDTH = 1024, 576
VOCABULARIES = (8_192, 49_152, 151_936)
CHUNKS = (0, 2**25, 2**23)


def measure(vocabulary: int, most_logits: int) -> tuple[float, float]:
    """MiB that the loss adds, and its seconds."""
    import torch
    from taskspec_aligners.kd import KD

    from taskspec.training.chunked_loss import alignment_loss
    from taskspec.training.teacher import StoredTeacherSignal

    torch.manual_seed(0)
    head = torch.nn.Linear(WIDTH, vocabulary, bias=False)
    states = torch.randn(POSITIONS, WIDTH, requires_grad=True)
    hidden = torch.randn(POSITIONS, WIDTH)
    tokens = torch.randint(0, vocabulary, (POSITIONS,))
    normalizer = torch.full((POSITIONS,), 10.0)
    teacher = StoredTeacherSignal(tokens, hidden, normalizer, head.requires_grad_(True))
    states.grad, head.weight.grad = torch.zeros_like(states), torch.zeros_like(head.weight)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    loss: Any = alignment_loss(states, head, KD(), teacher, None, vocabulary, most_logits).loss
    loss.backward()
    seconds = time.perf_counter() - started
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024, seconds


def main() -> None:
    """Measure one cell when asked for one, else all of them."""
    if len(sys.argv) == 3:
        print(*measure(int(sys.argv[1]), int(sys.argv[2])))
        return
    sizes = ["whole batch" if not size else f"2^{size.bit_length() - 1} logits" for size in CHUNKS]
    print(f"| vocabulary | {' | '.join(sizes)} |\n|---|{'---|' * len(sizes)}")
    for vocabulary in VOCABULARIES:
        cells = []
        for size in CHUNKS:
            command = [sys.executable, __file__, str(vocabulary), str(size)]
            found = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            memory, seconds = map(float, found.split())
            cells.append(f"{memory:,.0f} MiB, {seconds:.2f} s")
        print(f"| {vocabulary:,} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
