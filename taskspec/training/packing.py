"""Which answers go into which row of which batch, so that little is padding."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence

import torch

from taskspec.corpus.answers import StoredAnswer

Rows = tuple[tuple[int, ...], ...]
"""One batch: numbers of the answers that stand one after the other in each of its rows."""

_WINDOW_BATCHES = 16
_WIDEST_ROW = 4
"""In lengths of the longest answer of a batch."""
_ENOUGH = 0.03
"""Padding that is not worth wider rows."""


def plan_batches(
    answers: Sequence[StoredAnswer], batch_tokens: int, tokens: int, seed: int
) -> list[Rows]:
    """Which answers go into which batch, for the whole budget.

    Epochs are shuffled. Within a window of batches answers of similar length come together, and
    what is left of a row is filled with shorter ones.

    Args:
        answers: What to train on.
        batch_tokens: Tokens per batch, prompts and padding included.
        tokens: Answer tokens to train on, repeats counted.
        seed: Source of the order.

    Returns:
        Batches of indices into `answers`; the plan of a smaller budget is a prefix.
    """
    generator = torch.Generator().manual_seed(seed)
    lengths = [sequence_length(answer) for answer in answers]
    plan: list[Rows] = []
    trained = 0
    while trained < tokens:
        order = torch.randperm(len(answers), generator=generator).tolist()
        window = max(1, _WINDOW_BATCHES * batch_tokens // max(1, sum(lengths) // len(lengths)))
        epoch: list[Rows] = []
        for start in range(0, len(order), window):
            epoch.extend(_pack(order[start : start + window], lengths, batch_tokens))
        for place in torch.randperm(len(epoch), generator=generator).tolist():
            plan.append(epoch[place])
            trained += answer_tokens(answers, epoch[place])
            if trained >= tokens:
                break
    return plan


def sequence_length(answer: StoredAnswer) -> int:
    """Tokens that are fed of a prompt and its answer: all but the last one."""
    return len(answer.prompt_ids) + len(answer.answer_ids) - 1


def answer_tokens(answers: Sequence[StoredAnswer], rows: Rows) -> int:
    """Answer tokens of one batch."""
    return sum(len(answers[index].answer_ids) for row in rows for index in row)


def batch_weights(counts: Sequence[int], together: int) -> list[float]:
    """What the mean loss of each batch counts for, so that all answer tokens of a step are alike.

    A step learns from its batches' losses divided by `together`, however many came. Of a batch
    alone in its step the weight is exactly 1.

    Args:
        counts: Answer tokens of each batch, step by step; the last step may have fewer batches.
        together: Batches of a step, those of all processes together.
    """
    weights: list[float] = []
    for first in range(0, len(counts), together):
        step = counts[first : first + together]
        weights += [count * together / sum(step) for count in step]
    return weights


def padding_share(answers: Sequence[StoredAnswer], plan: Sequence[Rows]) -> float:
    """Share of a plan's token positions that are padding."""
    lengths = [sequence_length(answer) for answer in answers]
    real = total = 0
    for rows in plan:
        widths = [sum(lengths[index] for index in row) for row in rows]
        real += sum(widths)
        total += len(widths) * max(widths)
    return 1 - real / total


def _pack(order: Sequence[int], lengths: Sequence[int], batch_tokens: int) -> Iterator[Rows]:
    """Batches of the longest answers left, in rows as narrow as little padding allows.

    Narrow rows cost less attention; wide ones leave room that shorter answers fill.
    """
    left = sorted(order, key=lambda index: lengths[index])
    while left:
        longest = lengths[left[-1]]
        best: tuple[float, Rows, list[int]] | None = None
        for multiple in range(1, _WIDEST_ROW + 1):
            if best is None or multiple * longest <= batch_tokens:
                rows, rest = _fill_rows(left, lengths, multiple * longest, batch_tokens)
                waste = _waste(rows, lengths)
                if best is None or waste < best[0]:
                    best = waste, rows, rest
            if best[0] <= _ENOUGH:
                break
        assert best is not None
        yield best[1]
        left = best[2]


def _fill_rows(
    ascending: Sequence[int], lengths: Sequence[int], width: int, batch_tokens: int
) -> tuple[Rows, list[int]]:
    """Rows filled by the longest answers that fit, and what is left, still ascending."""
    left = list(ascending)
    sizes = [lengths[index] for index in left]
    rows: list[tuple[int, ...]] = []
    while left and len(rows) < max(1, batch_tokens // width):
        row, room = [], width
        while (place := bisect_right(sizes, room) - 1) >= 0:
            room -= sizes.pop(place)
            row.append(left.pop(place))
        rows.append(tuple(row))
    return tuple(rows), left


def _waste(rows: Rows, lengths: Sequence[int]) -> float:
    """Share of a batch that is padding."""
    widths = [sum(lengths[index] for index in row) for row in rows]
    return 1 - sum(widths) / (len(widths) * max(widths))
