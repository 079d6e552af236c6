"""What in-flight correction promises: known answers decoded again without their target.

    taskspec run quickstart
    python benchmarks/replay.py runs/quickstart
    taskspec bench leave-one-out quickstart --task math
    python benchmarks/replay.py runs/quickstart-without-math --answers runs/quickstart

The target's greedy answers to a run's validation prompts are known. A bundle routes the prompts,
its drafts propose and are held against the answers, as routed, with correction, and with correction
that learns from the answers before, and the cost model, with what passes and drafts cost here, says
what the steps take over plain decoding; what drafts that watch or take over read and propose is in
it. So rules for correction are compared on every prompt without timing an answer. The last column
knows beforehand which draft and length is best for a prompt: what replacing drafts could bring at
most. Prompts' passes, routing and the rules' own time are left out. Costs are measured at the start
and differ from call to call. Prints Markdown.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from taskspec.corpus.answers import StoredAnswer
from taskspec.decoding.correction import Correction
from taskspec.decoding.experience import Experience
from taskspec.decoding.records import DraftChoice, Request, StepRecord
from taskspec.decoding.row import Row
from taskspec.pipeline.answering import load_answers
from taskspec.pipeline.collect import load_examples
from taskspec.registry import default_registry
from taskspec.serving.bundle import Bundle, load_bundle
from taskspec.serving.correcting import measure_correction

_COLLECT = "stages/01-collect"
_LENGTHS = (2, 3, 4, 6, 8)


def replayed(
    bundle: Bundle,
    correction: Correction,
    answer: StoredAnswer,
    draft: DraftChoice | None,
    most: int,
    seed: int,
    corrected: Correction | None = None,
) -> float:
    """Cost of an answer's steps, in steps of plain decoding.

    Args:
        bundle: Holds the drafts.
        correction: Costs.
        answer: Prompt and answer.
        draft: As routed.
        most: Tokens of the answer that count.
        seed: Of the request, from which the hedge draws.
        corrected: The rules; None keeps the draft.
    """
    tokens, drafters = answer.answer_ids[:most], bundle.pool.drafters
    request = Request(answer.id, tuple(answer.prompt_ids), len(tokens), seed=seed, draft=draft)
    row = Row(request, 0, frozenset(), bundle.target.context_length)
    row.pilot = corrected.pilot(row, drafters) if corrected else None
    row.emit([tokens[0]])
    cost = 0.0
    while row.finish is None:
        if row.pilot is not None:
            row.pilot.steer()
        asked = row.draft_length
        proposed = _proposed(row, bundle, asked)
        rest = tokens[len(row.tokens) :]
        pairs = zip(proposed, rest, strict=False)
        longest = min(len(proposed), len(rest))
        accepted = next((n for n, (a, b) in enumerate(pairs) if a != b), longest)
        emitted = row.emit(list(rest[: accepted + 1]))
        row.record(StepRecord(len(proposed), min(accepted, emitted), emitted))
        cost += _price(correction, row, len(proposed), asked)
        if row.choice is not None and row.drafting and row.finish is None:
            new = torch.tensor([row.tokens[-emitted:]])
            drafters[row.choice.draft].commit([0], new, torch.tensor([emitted]))
        if row.pilot is not None:
            row.pilot.learn()
    row.stop(drafters)
    if row.pilot is None:
        return cost
    row.pilot.stop()
    return row.pilot.spent


def _proposed(row: Row, bundle: Bundle, asked: int) -> list[int]:
    if row.choice is None or not asked:
        return []
    if not row.drafting:
        row.start(bundle.pool.drafters)
    drafter = bundle.pool.drafters[row.choice.draft]
    proposal = drafter.propose([0], [asked], torch.zeros(1, asked))
    found: list[int] = proposal.tokens[0, : int(proposal.lengths[0])].tolist()
    return found


def _price(correction: Correction, row: Row, drafted: int, asked: int) -> float:
    choice = row.choice
    if choice is None or not asked:
        return 1.0
    ways = {(way.choice.draft, way.choice.adapter): way for way in correction.ways}
    own = ways.get((choice.draft, choice.adapter))
    if own is None:
        raise SystemExit(
            f"the bundle does not say what {choice.draft} brings; run the recipe again"
        )
    return correction.prices.step(own, drafted, min(drafted + 1, asked))


def _choices(correction: Correction) -> list[DraftChoice]:
    """Every draft at the lengths that it may be held to."""
    return [
        DraftChoice(way.choice.draft, length, way.choice.adapter)
        for way in correction.ways
        for length in _LENGTHS
        if length <= way.longest
    ]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("--answers", type=Path, help="the run whose answers to take; RUN itself")
    parser.add_argument("--tokens", type=int, default=48, help="tokens of an answer that count")
    options = parser.parse_args()
    bundle = load_bundle(options.run / "bundle", default_registry())
    if any(drafter.hidden_layers for drafter in bundle.pool.drafters.values()):
        raise SystemExit("drafts that read the target's states cannot draft without it")
    folder = (options.answers or options.run) / _COLLECT
    stored = load_answers(folder, signal=False)
    held = [each for each in load_examples(folder) if each.split == "validation"]
    typical = Request("typical", tuple(stored[held[0].id].prompt_ids), 32, ignore_eos=True)
    correction = replace(measure_correction(bundle, typical), experience=None)
    experienced = replace(correction, experience=Experience())
    costs: dict[str, list[Sequence[float]]] = defaultdict(list)
    for seed, each in enumerate(held):
        answer = stored[each.id]
        if len(answer.answer_ids) < 2:
            continue
        found = bundle.router.route(each.prompt_text).assignment
        draft = bundle.pool.choice(found.draft, found.draft_length)
        steps = [
            replayed(bundle, correction, answer, draft, options.tokens, seed, rules)
            for rules in (None, correction, experienced)
        ]
        every = [
            replayed(bundle, correction, answer, choice, options.tokens, seed)
            for choice in _choices(correction)
        ]
        plain = len(answer.answer_ids[: options.tokens]) - 1
        costs[each.task or "all"].append((plain, *steps, min(plain, *every)))
    bound = "best draft and length of each prompt"
    print(f"| task | prompts | as routed | corrected | with experience | {bound} |")
    print("|---|---|---|---|---|---|")
    for task, own in [*costs.items(), ("all", [row for rows in costs.values() for row in rows])]:
        total, *others = (sum(column) for column in zip(*own, strict=True))
        figures = " | ".join(f"{total / other:.2f}x" for other in others)
        print(f"| {task} | {len(own)} | {figures} |")


if __name__ == "__main__":
    with torch.inference_mode():
        main()
