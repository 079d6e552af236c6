"""The suffix drafter: continues what occurred before as it mostly went on."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from taskspec_drafters.suffix import Suffix, SuffixOptions
from taskspec_drafters.suffix_automaton import SEPARATOR, SuffixAutomaton

from taskspec.errors import ModelError
from taskspec.interfaces import Sampling

texts = st.lists(st.integers(0, 3), min_size=1, max_size=40)


def runs(text: list[int]) -> Counter[tuple[int, ...]]:
    """Every run of a text with its number of occurrences, the slow and certain way."""
    return Counter(
        tuple(text[first:last])
        for first in range(len(text))
        for last in range(first + 1, len(text) + 1)
    )


def grown(text: list[int]) -> SuffixAutomaton:
    automaton = SuffixAutomaton()
    automaton.extend(text)
    return automaton


def state_of(automaton: SuffixAutomaton, run: tuple[int, ...]) -> int | None:
    state = 0
    for token in run:
        if token not in automaton.next[state]:
            return None
        state = automaton.next[state][token]
    return state


@given(texts, texts)
def test_it_holds_every_run_with_its_count_and_no_other(text: list[int], other: list[int]) -> None:
    automaton, counts = grown(text), runs(text)
    for run, count in counts.items():
        state = state_of(automaton, run)
        assert state is not None and automaton.count[state] == count
    for run in runs(other):
        assert (state_of(automaton, run) is None) == (run not in counts)


@given(texts)
def test_the_repeated_suffix_is_the_longest_that_occurred_before(text: list[int]) -> None:
    automaton, counts = grown(text), runs(text)
    state, length = automaton.repeated()
    longest = max(n for n in range(len(text)) if n == 0 or counts[tuple(text[-n:])] > 1)
    assert length == longest
    assert state == state_of(automaton, tuple(text[len(text) - length :]))


@given(texts, texts)
def test_following_keeps_the_longest_known_suffix(text: list[int], read: list[int]) -> None:
    automaton, counts = grown(text), runs(text)
    state = matched = 0
    for end, token in enumerate(read, start=1):
        state, matched = automaton.follow(state, matched, token)
        known = [n for n in range(end + 1) if n == 0 or tuple(read[end - n : end]) in counts]
        assert matched == max(known)


def drafted(drafter: Suffix, prompt: list[int], k: int, row: int = 0) -> list[int]:
    drafter.start(row, prompt, Sampling())
    proposal = drafter.propose([row], [k], torch.zeros(1, k))
    drafter.stop(row)
    return proposal.tokens[0, : int(proposal.lengths[0])].tolist()


def test_it_goes_on_as_the_answers_did() -> None:
    drafter = Suffix(SuffixOptions(), [[1, 2, 3, 4, 5, 6, 7]])
    assert drafted(drafter, [9, 2, 3, 4], 3) == [5, 6, 7]


def test_it_goes_on_as_the_request_itself_did() -> None:
    assert drafted(Suffix(), [5, 6, 7, 8, 9, 5, 6], 3) == [7, 8, 9]


def test_a_text_that_repeats_itself_is_expected_to_go_on() -> None:
    assert drafted(Suffix(), [1, 2, 3, 1, 2, 3, 1, 2, 3], 7) == [1, 2, 3, 1, 2, 3, 1]


def test_of_several_continuations_the_most_frequent_is_drafted() -> None:
    answers = [[1, 2, 3], [1, 2, 4], [1, 2, 4], [1, 2, 4]]
    assert drafted(Suffix(SuffixOptions(), answers), [1, 2], 1) == [4]


def test_it_stops_where_the_continuation_is_uncertain() -> None:
    answers = [[1, 2, 3, 4], [1, 2, 3, 5], [1, 2, 3, 6]]
    assert drafted(Suffix(SuffixOptions(min_probability=0.4), answers), [1, 2], 4) == [3]
    assert drafted(Suffix(SuffixOptions(min_probability=0.0), answers), [1, 2], 4) == [3, 4]


@pytest.mark.parametrize(("least", "expected"), [(1, [3]), (2, []), (3, [])])
def test_short_matches_are_not_trusted(least: int, expected: list[int]) -> None:
    drafter = Suffix(SuffixOptions(min_match=least), [[1, 2, 3]])
    assert drafted(drafter, [7, 2], 3) == expected


def test_a_longer_match_is_trusted_further() -> None:
    drafter = Suffix(SuffixOptions(min_probability=0.4), [list(range(20))])
    lengths = [len(drafted(drafter, [50, *range(first, 5)], 20)) for first in (4, 3, 1)]
    assert 0 < lengths[0] < lengths[1] < lengths[2] < 15


def test_what_followed_more_often_is_trusted_further() -> None:
    once = Suffix(SuffixOptions(min_probability=0.4), [list(range(20))])
    often = Suffix(SuffixOptions(min_probability=0.4), [list(range(20))] * 5)
    assert len(drafted(once, [50, 4], 20)) < len(drafted(often, [50, 4], 20))


def test_request_and_answers_take_turns_within_a_draft() -> None:
    """Only the request has what follows 2, and neither of them 2, 5, 6."""
    drafter = Suffix(SuffixOptions(), [[5, 6]] * 3)
    assert drafted(drafter, [2, 5, 1, 2], 2) == [5, 6]
    assert drafted(Suffix(), [2, 5, 1, 2], 2) == [5, 1]


def test_no_draft_runs_from_one_answer_into_the_next() -> None:
    drafter = Suffix(SuffixOptions(min_probability=0.0), [[1, 2], [3, 4]])
    assert drafted(drafter, [1, 2], 4) == []
    assert drafted(drafter, [9, 3], 4) == [4] and SEPARATOR < 0


def test_what_it_emitted_it_can_copy() -> None:
    drafter = Suffix()
    drafter.start(0, [1, 2, 3], Sampling())
    drafter.commit([0], torch.tensor([[4, 1, 2]]), torch.tensor([3]))
    proposal = drafter.propose([0], [2], torch.zeros(1, 2))
    assert proposal.tokens[0, : int(proposal.lengths[0])].tolist() == [3, 4]


def test_saved_and_loaded_it_drafts_the_same(tmp_path: Path) -> None:
    drafter = Suffix(SuffixOptions(), [[1, 2, 3, 4], [1, 2, 5]])
    drafter.save(tmp_path)
    target: Any = None
    loaded = Suffix.load(tmp_path, target, SuffixOptions())
    for prompt in ([1, 2], [2, 3], [8, 1, 2, 5]):
        assert drafted(loaded, prompt, 4) == drafted(drafter, prompt, 4)


def test_a_folder_without_answers_is_refused(tmp_path: Path) -> None:
    target: Any = None
    with pytest.raises(ModelError, match="holds no suffix draft"):
        Suffix.load(tmp_path, target, SuffixOptions())


@pytest.mark.parametrize("options", [{"min_match": 0}, {"min_probability": 1.5}])
def test_options_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"^{next(iter(options))} "):
        SuffixOptions(**options)


def remembering(*answers: list[int], most: int = 100) -> Suffix:
    drafter = Suffix(SuffixOptions(min_probability=0.0), [[1, 2, 3, 4]])
    for answer in answers:
        drafter.remember(answer, most)
    return drafter


def test_it_goes_on_as_answers_did_that_it_has_served() -> None:
    assert drafted(remembering(), [9, 5, 6], 2) == []
    assert drafted(remembering([5, 6, 7, 8]), [9, 5, 6], 2) == [7, 8]
    assert drafted(remembering([5, 6, 7, 8]), [9, 1, 2], 2) == [3, 4]


def test_the_newest_answers_stay_where_there_is_no_room_for_all() -> None:
    served = [[10 * n + place for place in range(5, 9)] for n in range(1, 7)]
    drafter = remembering(*served, most=12)
    known = [bool(drafted(drafter, answer[:2], 1)) for answer in served]
    assert known[-1] and sum(known) <= 3 and known == sorted(known)
    assert drafted(drafter, [1, 2], 2) == [3, 4], "what it was built from stays"


def test_of_an_answer_that_is_too_long_the_end_stays() -> None:
    drafter = remembering(list(range(20, 40)), most=4)
    assert drafted(drafter, [37], 2) == [38, 39] and drafted(drafter, [30], 2) == []


def test_what_it_has_served_is_not_saved(tmp_path: Path) -> None:
    remembering([5, 6, 7, 8]).save(tmp_path)
    target: Any = None
    assert drafted(Suffix.load(tmp_path, target, SuffixOptions()), [5, 6], 2) == []


@given(texts, st.lists(texts, max_size=6), texts, texts, st.integers(1, 60))
def test_rows_that_were_there_know_what_was_served_like_rows_that_start_afterwards(
    own: list[int], answers: list[list[int]], read: list[int], more: list[int], most: int
) -> None:
    drafter = Suffix(SuffixOptions(), [own])
    drafter.start(0, read, Sampling())
    for answer in answers:
        drafter.remember(answer, most)
    kept = [list(answer) for answer in drafter._served._kept]
    assert sum(map(len, kept)) <= most
    assert kept[-1:] == [answer[-most:] for answer in answers[-1:]]
    drafter.commit([0], torch.tensor([more]), torch.tensor([len(more)]))
    drafter.start(1, [*read, *more], Sampling())
    proposal = drafter.propose([0, 1], [4, 4], torch.zeros(2, 4))
    assert proposal.lengths[0] == proposal.lengths[1]
    assert proposal.tokens[0].tolist() == proposal.tokens[1].tolist()
    served = drafter._rows[0].served[1]
    longest = [
        n for n in range(len(read + more) + 1) if in_one((read + more)[-n:] if n else [], kept)
    ]
    assert served == max(longest)


def in_one(run: list[int], answers: list[list[int]]) -> bool:
    return not run or any(
        answer[first : first + len(run)] == run
        for answer in answers
        for first in range(len(answer))
    )
