"""Stored answers: what is written is read, whole or not at all."""

import dataclasses

import pytest
import torch
from safetensors import safe_open

from taskspec.corpus import answers as module
from taskspec.corpus.answers import (
    StoredAnswer,
    TopTokens,
    is_looping,
    read_answers,
    write_answers,
)
from taskspec.errors import ArtifactError


def make_top(length):
    """Two likely tokens of 100,010 at every position."""
    ids = torch.randint(0, 100_010, (length, 2), dtype=torch.int32)
    return TopTokens(ids, torch.rand(length, 2).log(), torch.rand(length), 100_010)


def make_answers(dtype=None, top=False):
    """Three answers, the second one empty; with the target's states or likely tokens if asked."""
    lengths = {"a": 3, "b": 0, "ü": 2}
    return [
        StoredAnswer(
            name,
            tuple(range(length + 1)),
            tuple(range(100_000, 100_000 + length)),
            length == 3,
            torch.randn(length, 4).to(dtype) if dtype else None,
            torch.randn(length) if dtype else None,
            make_top(length) if top else None,
        )
        for name, length in lengths.items()
    ]


def assert_same(read, written):
    assert len(read) == len(written)
    for left, right in zip(read, written, strict=True):
        for field in dataclasses.fields(right):
            mine, theirs = getattr(left, field.name), getattr(right, field.name)
            if isinstance(theirs, TopTokens):
                assert_same([mine], [theirs])
            elif isinstance(theirs, torch.Tensor):
                assert mine.dtype == theirs.dtype
                torch.testing.assert_close(mine, theirs, rtol=0, atol=0)
            else:
                assert mine == theirs


@pytest.mark.parametrize("dtype", [None, torch.float32, torch.bfloat16], ids=str)
def test_what_is_written_is_read(tmp_path, dtype):
    written = make_answers(dtype)
    write_answers(tmp_path / "answers.safetensors", written)
    assert_same(read_answers(tmp_path / "answers.safetensors"), written)


def test_likely_tokens_are_read_as_written_at_8_k_plus_4_bytes_a_token(tmp_path):
    written, sizes = make_answers(top=True), {}
    for name, answers in (("top", written), ("bare", make_answers())):
        write_answers(tmp_path / name, answers)
        with safe_open(tmp_path / name, framework="pt") as file:
            tensors = [file.get_tensor(key) for key in file.keys()]  # noqa: SIM118
            sizes[name] = sum(tensor.nbytes for tensor in tensors)
    assert_same(read_answers(tmp_path / "top"), written)
    tokens = sum(len(answer.answer_ids) for answer in written)
    assert sizes["top"] - sizes["bare"] == tokens * (8 * 2 + 4)


@pytest.mark.parametrize("kept", [{}, {"dtype": torch.float32}, {"top": True}], ids=str)
def test_token_ids_are_read_without_the_signal(tmp_path, kept):
    written = make_answers(**kept)
    write_answers(tmp_path / "answers.safetensors", written)
    bare = [
        dataclasses.replace(each, hidden=None, log_normalizer=None, top=None) for each in written
    ]
    assert read_answers(tmp_path / "answers.safetensors", signal=False) == bare


def test_no_answers_are_stored_too(tmp_path):
    write_answers(tmp_path / "answers.safetensors", [])
    assert read_answers(tmp_path / "answers.safetensors") == []


@pytest.mark.parametrize("signal", [{"dtype": torch.float32}, {"top": True}], ids=str)
def test_a_signal_for_some_answers_only_is_refused(tmp_path, signal):
    mixed = [make_answers(**signal)[0], make_answers()[1]]
    with pytest.raises(ValueError, match="all answers .* or none"):
        write_answers(tmp_path / "answers.safetensors", mixed)


def test_states_without_their_normalizers_are_refused(tmp_path):
    halves = [dataclasses.replace(a, log_normalizer=None) for a in make_answers(torch.float32)]
    with pytest.raises(ValueError, match="together only"):
        write_answers(tmp_path / "answers.safetensors", halves)


def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "answers.safetensors"
    old = make_answers()
    write_answers(path, old)

    def fail(tensors, file, metadata):
        file.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "save_file", fail)
    with pytest.raises(KeyboardInterrupt):
        write_answers(path, make_answers(torch.float32))
    assert_same(read_answers(path), old)


def test_whoever_reads_the_old_file_meanwhile_reads_it_whole(tmp_path):
    path = tmp_path / "answers.safetensors"
    write_answers(path, make_answers())
    old = path.read_bytes()
    with path.open("rb") as reader:
        write_answers(path, make_answers(torch.float32))
        assert reader.read() == old


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ArtifactError, match=r"none.safetensors is missing or damaged.*run the"):
        read_answers(tmp_path / "none.safetensors")


@pytest.mark.parametrize("damage", ["cut", "emptied", "metadata gone", "metadata wrong"])
def test_damage_is_reported(tmp_path, damage):
    path = tmp_path / "answers.safetensors"
    write_answers(path, make_answers(torch.float32))
    content = path.read_bytes()
    path.write_bytes(
        {
            "cut": content[:-5],
            "emptied": b"",
            "metadata gone": content.replace(b'"rows"', b'"sowr"'),
            "metadata wrong": content.replace(rb"\"answer\": 3", rb"\"answer\": 4"),
        }[damage]
    )
    assert path.read_bytes() != content
    with pytest.raises(ArtifactError, match="missing or damaged"):
        read_answers(path)


@pytest.mark.parametrize(
    ("tokens", "loops"),
    [
        ([7] * 32, True),
        ([7] * 31, False),
        ([], False),
        (list(range(12)) * 4, True),
        (list(range(13)) * 4, False),
        ([*range(100), *[1, 2] * 16], True),
        ([*[1, 2] * 50, *range(32)], False),
    ],
)
def test_a_loop_is_few_tokens_again_and_again_at_the_end(tokens, loops):
    assert is_looping(tokens) is loops
