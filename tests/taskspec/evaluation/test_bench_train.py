"""The training benchmark compares like with like."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from taskspec_aligners.kd import KD, KDOptions
from taskspec_drafters.causal_lm import CausalLM, CausalLMOptions
from typer.testing import CliRunner

from taskspec.cli.main import app
from taskspec.corpus.examples import Example, Message
from taskspec.evaluation import bench_peers
from taskspec.evaluation.bench_texts import bench_answers
from taskspec.evaluation.bench_train import BARE, OURS, PEERS
from taskspec.interfaces import DraftCorpus
from taskspec.models.loading import load_language_model
from taskspec.training.batches import make_packed_batch


@pytest.mark.parametrize("flattened", [False, True])
def test_the_plain_loop_has_the_loss_that_we_have(tiny_llama_folder: Path, flattened: bool) -> None:
    target = load_language_model(str(tiny_llama_folder), device="cpu")
    words = [" ".join(f"w{i % 60}" for i in range(3, length)) for length in (9, 14, 30)]
    examples = [Example(text, (Message("user", text),), None, None) for text in words]
    answers = bench_answers(target, examples, 4, seed=0)
    draft = CausalLM.build(target, DraftCorpus([], []), CausalLMOptions(layers=2, vocabulary=64))
    made = make_packed_batch([answers[:2], answers[2:]], target.head)
    assert made.teacher is not None
    logits = draft.training_logits(made.batch, made.teacher)
    expected = KD(KDOptions()).loss(logits, made.teacher, draft.vocabulary).loss
    counts: list[int] = []
    inputs = bench_peers._collator(flattened, counts)([bench_peers._row(a) for a in answers])
    found = bench_peers._loss(draft.module, inputs, target.head, draft.vocabulary)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert counts == [made.real_tokens]
    assert inputs["input_ids"].shape[0] == (1 if flattened else 4)


def test_texts_have_the_lengths_of_the_corpus_and_a_teacher(tiny_llama_folder: Path) -> None:
    target = load_language_model(str(tiny_llama_folder), device="cpu")
    examples = [Example("one", (Message("user", "w1 w2 w3"),), None, None)]
    answers = bench_answers(target, examples, 5, seed=0)
    assert answers[0].prompt_ids == target.chat_ids(examples[0].messages, None)
    assert bench_answers(target, examples, 5, seed=0)[3].answer_ids == answers[3].answer_ids
    for answer in answers:
        assert 8 <= len(answer.answer_ids) <= 64
        assert answer.hidden is not None and len(answer.hidden) == len(answer.answer_ids)
        assert answer.log_normalizer is not None


@pytest.mark.slow
def test_the_command_measures_every_way_in_every_round(
    tiny_llama_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "speed.json"
    sizes = ["--layers", "2", "--vocabulary", "64", "--batch-tokens", "256", "--steps", "8"]
    exact = ["--precision", "32-true", "--dtype", "float32", "--device", "cpu", "--repeats", "2"]
    command = ["bench", "train", str(tiny_llama_folder), *sizes, *exact, "--out", str(out)]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(out.read_text())
    speeds = {speed["name"]: speed for speed in found["speeds"]}
    assert list(speeds) == [OURS, *PEERS, BARE]
    for speed in speeds.values():
        assert len(speed["tokens_per_second"]) == len(speed["ratios"]) == 2
        assert min(speed["tokens_per_second"]) > 0
    assert speeds[OURS]["ratios"] == [1.0, 1.0]
    assert 0 <= found["padding"] < found["peer_padding"] < 1
    assert found["peak"] > 0 and found["flops_per_token"] > 0
    assert "MFU" in result.output and "forward + backward alone" in result.output
