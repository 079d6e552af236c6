"""Splits: every prompt in exactly one, the same one tomorrow."""

import dataclasses

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from taskspec.corpus.examples import Example, Message
from taskspec.corpus.splits import (
    check_left_out,
    copies_left_out,
    known_prompts,
    split_examples,
    with_splits,
)
from taskspec.errors import CorpusError
from taskspec.recipe.schema import CorpusConfig

CONFIG = CorpusConfig(path="p.jsonl")
MARKED = [
    Example(name, (Message("user", name),), split)
    for name, split in [("=a", "train"), ("=b", "train"), ("=c", "validation"), ("=d", "test")]
]
names = st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), unique=True)
names = names.filter(lambda each: not any(name.startswith("=") for name in each))
seeds = st.integers(0, 2**32 - 1)


def examples_of(ids):
    return [Example(name, (Message("user", name.encode().hex()),)) for name in ids]


def splits_of(ids, seed=0, config=CONFIG):
    """Splits by id; a few marked prompts make every split large enough."""
    split = split_examples([*MARKED, *examples_of(ids)], config, seed)
    return {example.id: example.split for example in split}


@settings(deadline=None)
@given(names, seeds)
def test_every_prompt_is_in_exactly_one_split(ids, seed):
    splits = splits_of(ids, seed)
    assert len(splits) == len(ids) + len(MARKED)
    assert set(splits.values()) == {"train", "validation", "test"}


@settings(deadline=None)
@given(names, names, seeds)
def test_adding_and_reordering_prompts_moves_none(ids, more, seed):
    before = splits_of(ids, seed)
    after = splits_of(sorted({*ids, *more}), seed)
    assert before.items() <= after.items()


@settings(deadline=None)
@given(names, st.randoms(use_true_random=False), seeds)
def test_marked_prompts_stay_where_they_are(ids, random, seed):
    marked = [
        dataclasses.replace(example, split=random.choice(["train", "validation", "test"]))
        for example in examples_of(ids)
    ]
    assert split_examples([*MARKED, *marked], CONFIG, seed) == [*MARKED, *marked]


@settings(deadline=None)
@given(names, seeds, st.integers(2, 20))
def test_the_limit_leaves_training_prompts_out_and_nothing_else(ids, seed, limit):
    everything = splits_of(ids, seed)
    limited = splits_of(ids, seed, dataclasses.replace(CONFIG, limit=limit))
    assert limited.items() <= everything.items()
    count = list(everything.values()).count("train")
    assert list(limited.values()).count("train") == min(limit, count)
    assert len(everything) - len(limited) == max(0, count - limit)


def test_the_seed_draws_splits_and_limited_training_prompts():
    ids = [f"p{number}" for number in range(200)]
    assert splits_of(ids, seed=1) != splits_of(ids, seed=2)
    config = dataclasses.replace(CONFIG, limit=20)
    marked = [dataclasses.replace(each, split="train") for each in examples_of(ids)]
    first, second = (split_examples([*MARKED, *marked], config, seed) for seed in (1, 2))
    assert {each.id for each in first} != {each.id for each in second}


def saying(*texts, splits=None):
    splits = splits or [None] * len(texts)
    return [
        Example(f"p{number}", (Message("system", f"{number}"), Message("user", text)), split)
        for number, (text, split) in enumerate(zip(texts, splits, strict=True))
    ]


def test_prompts_that_say_the_same_are_in_one_split():
    texts = [f"question {number}" for number in range(60)]
    split = with_splits(saying(*texts, *(f" {text}\n" for text in texts), *texts), CONFIG, 0)
    assert len(split) == 180
    places = {}
    for each in split:
        places.setdefault(each.key, set()).add(each.split)
    assert all(len(found) == 1 for found in places.values()) and len(places) == 60
    assert copies_left_out(split) == ""


def test_copies_follow_the_marked_prompt():
    split = with_splits(saying("a", "a ", splits=[None, "test"]), CONFIG, 0)
    assert [each.split for each in split] == ["test", "test"]


def test_of_copies_in_several_splits_the_most_held_out_stay():
    prompts = saying("a", "a", "a", "b", "b", splits=["train", "test", "train", "validation", None])
    split = with_splits(prompts, CONFIG, 0)
    assert [(each.id, each.split) for each in split] == [
        ("p1", "test"),
        ("p3", "validation"),
        ("p4", "validation"),
    ]
    assert copies_left_out(prompts).startswith("2 left out")


def test_shares_are_kept():
    config = CorpusConfig(path="p.jsonl", validation_share=0.2, test_share=0.3)
    splits = list(splits_of([str(number) for number in range(5000)], config=config).values())
    assert splits.count("validation") / 5000 == pytest.approx(0.2, abs=0.02)
    assert splits.count("test") / 5000 == pytest.approx(0.3, abs=0.02)


@pytest.mark.parametrize(
    ("kept", "found"),
    [
        ([0], "1 train, 0 validation, 0 test"),
        ([], "0 train, 0 validation, 0 test"),
        ([0, 2, 3], "1 train, 1 validation, 1 test"),
        ([0, 1, 3], "2 train, 0 validation, 1 test"),
        ([0, 1, 2], "2 train, 1 validation, 0 test"),
    ],
)
def test_too_few_prompts_are_refused_saying_what_to_add(kept, found):
    with pytest.raises(CorpusError) as caught:
        split_examples([MARKED[index] for index in kept], CONFIG, 0)
    assert str(caught.value).startswith(f"p.jsonl: too few prompts: {found}; needed are at least")
    assert "2 train, 1 validation, 1 test" in str(caught.value)


@settings(deadline=None)
@given(names, seeds)
def test_one_prompt_is_never_enough(ids, seed):
    assume(ids)
    with pytest.raises(CorpusError, match="too few prompts"):
        split_examples(examples_of(ids[:1]), CONFIG, seed)


TASKS = [
    Example(f"{task}-{index}", (Message("user", f"{task} {index}"),), split, task)
    for task in ("sums", "songs")
    for index, split in enumerate(("train", "train", "validation", "test"))
]


def test_tasks_left_out_are_not_known():
    check_left_out(TASKS, ["sums"])
    known = known_prompts(TASKS, ["sums"])
    assert [each.id for each in known] == ["songs-0", "songs-1", "songs-2"]
    assert len(known_prompts(TASKS, [])) == 6


@pytest.mark.parametrize(
    ("left_out", "message"),
    [
        (["sums", "sngs"], "no prompt has the task 'sngs'; tasks are: songs, sums"),
        (["sums", "songs"], "leaves 0 training and 0 validation prompts, too few"),
    ],
)
def test_what_cannot_be_left_out_is_refused(left_out, message):
    with pytest.raises(CorpusError, match=message):
        check_left_out(TASKS, left_out)
