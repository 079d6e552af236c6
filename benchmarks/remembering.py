"""How much better `suffix` guesses a task never seen, the more of its answers it has served.

    taskspec run quickstart
    python benchmarks/remembering.py runs/quickstart

The target's greedy answers to a run's training and validation prompts are known. For each known
task, a draft built from the other tasks' training answers proposes on the task's answers, in a
seeded order, and is held against them: once as it was built, once remembering the answers before.
No target runs and nothing is timed: figures are tokens per pass, which drafting as far as this
takes would bring. Prints Markdown, and the memory that all answers together take.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from pathlib import Path

import psutil
import torch
from taskspec_drafters.suffix import Suffix

from taskspec.corpus.answers import StoredAnswer
from taskspec.interfaces import Sampling
from taskspec.pipeline.answering import load_answers
from taskspec.pipeline.collect import load_examples

_BEFORE = ((0, 4), (5, 9), (10, 19), (20, 39), (40, 79), (80, 10**6))
_MOST = 1_000_000


def passes(drafter: Suffix, answer: StoredAnswer, tokens: Sequence[int], k: int) -> int:
    """Passes of the target that an answer takes after its first token."""
    drafter.start(0, [*answer.prompt_ids, tokens[0]], Sampling())
    done, count = 1, 0
    while done < len(tokens):
        proposal = drafter.propose([0], [k], torch.zeros(1, k))
        drafted = proposal.tokens[0, : int(proposal.lengths[0])].tolist()
        pairs = zip(drafted, tokens[done:-1], strict=False)
        stands = next((n for n, (a, b) in enumerate(pairs) if a != b), None)
        if stands is None:
            stands = min(len(drafted), len(tokens) - 1 - done)
        emitted = list(tokens[done : done + stands + 1])
        drafter.commit([0], torch.tensor([emitted]), torch.tensor([len(emitted)]))
        done, count = done + len(emitted), count + 1
    drafter.stop(0)
    return count


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("--tokens", type=int, default=48, help="tokens of an answer that count")
    parser.add_argument("--length", type=int, default=4, help="draft length")
    options = parser.parse_args()
    folder = options.run / "stages/01-collect"
    stored = load_answers(folder, signal=False)
    known = [each for each in load_examples(folder) if each.id in stored]
    before, drafter, count = psutil.Process().memory_info().rss, Suffix(), 0
    for each in known:
        drafter.remember(stored[each.id].answer_ids, _MOST)
        count += len(stored[each.id].answer_ids)
    taken = psutil.Process().memory_info().rss - before
    said = f"\n{count:,} remembered tokens take {taken / 2**20:.0f} MiB"
    tasks = sorted({each.task for each in known if each.task is not None})
    print(f"| task | answers | draft | {' | '.join(map(_name, _BEFORE))} |")
    print("|---|---|---|" + "---|" * len(_BEFORE))
    for task in tasks:
        others = [e for e in known if e.task != task and e.split == "train"]
        built = [stored[each.id].answer_ids[: options.tokens] for each in others]
        own = [stored[each.id] for each in known if each.task == task]
        own = [each for each in own if len(each.answer_ids) > 1]
        random.Random(0).shuffle(own)
        for name in ("as built", "remembering"):
            drafter = Suffix(None, built)
            found = {span: [0, 0] for span in _BEFORE}
            for place, answer in enumerate(own):
                tokens = answer.answer_ids[: options.tokens]
                span = next(each for each in _BEFORE if each[0] <= place <= each[1])
                found[span][0] += len(tokens) - 1
                found[span][1] += passes(drafter, answer, tokens, options.length)
                if name == "remembering":
                    drafter.remember(tokens, _MOST)
            figures = (
                f"{emitted / count:.2f}" if count else "" for emitted, count in found.values()
            )
            print(f"| {task} | {len(own)} | {name} | {' | '.join(figures)} |")
    print(said)


def _name(span: tuple[int, int]) -> str:
    first, last = span
    return f"{first} and more" if last == _BEFORE[-1][1] else f"{first}–{last} before"


if __name__ == "__main__":
    main()
