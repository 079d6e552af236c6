"""Checks of drafters: what was decided takes the place of what was drafted, however it is told."""

from __future__ import annotations

from typing import Any

from taskspec.interfaces import Sampling
from taskspec.testing.check import check
from taskspec.testing.exercises import start_row, started_rows
from taskspec.testing.toy_proposals import built_anew, commit_emitted, require_equal, toy_noise
from taskspec.testing.toy_target import VOCABULARY, toy_prompts

_SAMPLED = Sampling(1.0)
_FIRST = 6
"""The first of the toy target's words; those before are special."""


@check("drafter")
def check_commit_equals_a_fresh_start(drafter: Any) -> None:
    """After any acceptance the drafter goes on as if it had begun with the text as it stands."""
    built = built_anew(drafter)
    for sampling in (Sampling(), _SAMPLED):
        for accepted in (0, 1, 3):
            _compare_with_fresh(built, sampling, accepted)
        for accepted in (1, 2):
            _compare_with_fresh(built, sampling, accepted, corrected=False)


def _compare_with_fresh(
    built: Any, sampling: Sampling, accepted: int, corrected: bool = True
) -> None:
    """Two rounds of draft and commit on row 0; then a fresh start on the same text.

    Without a correction the last emitted token happens to be the drafted one.
    """
    prompt = toy_prompts(1)[0]
    text = list(prompt)
    start_row(built, 0, text, sampling)
    for turn in range(2):
        proposal = built.propose([0], [3], toy_noise(1, 3, turn))
        standing = proposal.tokens[0, : min(accepted, int(proposal.lengths[0]))].tolist()
        emitted = list(standing)
        if corrected or not standing:
            emitted.append((text[-1] + 11 + turn) % (VOCABULARY - _FIRST) + _FIRST)
        commit_emitted(built, [0], [text], [emitted])
        text += emitted
    _require_as_fresh(
        built,
        text,
        sampling,
        f"with {accepted} drafted tokens accepted, drafts differ from those of a fresh start on "
        "the same text; roll the refused tokens back and take the emitted ones in",
    )


def _require_as_fresh(built: Any, text: list[int], sampling: Sampling, message: str) -> None:
    """Row 0, which has come to this text, drafts as row 1, which starts with it; both stop."""
    start_row(built, 1, text, sampling)
    noise = toy_noise(1, 3, 9)
    continued = built.propose([0], [3], noise)
    fresh = built.propose([1], [3], noise)
    built.stop(0)
    built.stop(1)
    require_equal(continued, fresh, message)


@check("drafter")
def check_commits_without_proposals(drafter: Any) -> None:
    """Commits may come one after the other, of more tokens than a draft and one more, too.

    So it is where drafting is not worth its time, and where a draft follows a text that others
    drafted. Tokens repeat what was drafted and refused, and what was told before.
    """
    built = built_anew(drafter)
    for sampling in (Sampling(), _SAMPLED):
        for drafts in (False, True):
            text = list(toy_prompts(1)[0])
            start_row(built, 0, text, sampling)
            drafted: list[int] = []
            if drafts:
                proposal = built.propose([0], [2], toy_noise(1, 2))
                drafted = proposal.tokens[0, : int(proposal.lengths[0])].tolist()
            a, b, c, d, e, f, g = (
                _FIRST + (text[-1] + 5 * place) % (VOCABULARY - _FIRST) for place in range(7)
            )
            for emitted in ([a], [*drafted, b, c, d], [e, f, g, b, c]):
                commit_emitted(built, [0], [text], [emitted])
                text += emitted
            _require_as_fresh(
                built,
                text,
                sampling,
                "after commits without proposals between them, drafts differ from those of a "
                "fresh start on the same text; take in all that was emitted, however many tokens, "
                "whether or not something was drafted before",
            )


@check("drafter")
def check_commits_in_parts_and_any_order(drafter: Any) -> None:
    """Rows of one proposal may be committed in another order, or stopped without commit."""
    built, prompts = built_anew(drafter), toy_prompts(3)
    rows = started_rows(built, Sampling())
    built.propose(rows, [3] * 3, toy_noise(3, 3))
    built.stop(1)
    emitted = {2: [9, 8], 0: [7]}
    commit_emitted(built, [2, 0], [prompts[2], prompts[0]], [emitted[2], emitted[0]])
    found = built.propose([0, 2], [3, 3], toy_noise(2, 3))
    fresh = built_anew(drafter)
    for row in (0, 2):
        start_row(fresh, row, [*prompts[row], *emitted[row]], Sampling())
    expected = fresh.propose([0, 2], [3, 3], toy_noise(2, 3))
    require_equal(found, expected, "rows committed in another order mix up their texts")
