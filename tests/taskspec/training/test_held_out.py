"""Held-out answers score a training, end it early, and leave its weights alone."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from taskspec_aligners.kd import KD
from taskspec_drafters.causal_lm import CausalLM, CausalLMOptions
from trainings import CONFIG, TOKENS, TRAINER, curve, planned, same, train

from taskspec.errors import ModelError
from taskspec.interfaces import AlignmentLoss
from taskspec.testing.toy_draft import toy_answers, toy_draft
from taskspec.testing.toy_target import toy_target
from taskspec.training.batches import make_packed_batch
from taskspec.training.held_out import score_batch
from taskspec.training.losses import acceptance
from taskspec.training.packing import answer_tokens


@pytest.mark.parametrize("most_logits", [0, 100])
def test_alpha_is_the_mean_acceptance_over_held_out_positions(most_logits: int) -> None:
    draft = toy_draft()
    draft.module.eval()
    answers = toy_answers()[:3]
    made = make_packed_batch([[answers[0], answers[1]], [answers[2]]], toy_target().head)
    assert made.teacher is not None
    width = toy_target().vocabulary_size
    score = score_batch(draft, made.batch, made.teacher, width, most_logits)
    with torch.no_grad():
        logits = draft.training_logits(made.batch, made.teacher)
        expected = acceptance(logits, made.teacher.log_probs(None))
    assert float(score.metrics()["val_alpha"]) == pytest.approx(float(expected), abs=1e-5)


def test_curves_of_a_training_are_logged(tmp_path: Path) -> None:
    _, report = train(tmp_path)
    for name in ("loss", "alpha", "tokens_per_second", "mfu"):
        assert curve(tmp_path, name), name
    alphas = curve(tmp_path, "val_alpha")
    assert len(alphas) == 4 and alphas[-1] == pytest.approx(report.held_out["val_alpha"])
    assert alphas[-1] > alphas[0]
    assert all(1 <= value <= 5 for value in curve(tmp_path, "val_block_efficiency"))
    assert all(value > 0 for value in curve(tmp_path, "mfu"))
    assert 0 <= report.padding < 0.5


def test_scoring_does_not_change_what_is_learnt(tmp_path: Path) -> None:
    scored, _ = train(tmp_path / "scored")
    plain, report = train(tmp_path / "plain", held_out=False)
    assert same(scored, plain) and not report.held_out


def tokens_of(batches: int) -> int:
    """Answer tokens of the first batches of a training."""
    return sum(answer_tokens(toy_answers()[2:], rows) for rows in planned()[:batches])


class Spoils(KD):
    """Learns for a while, then unlearns."""

    batches = 0

    def loss(self, *arguments: Any) -> AlignmentLoss:
        self.batches += 1
        result = super().loss(*arguments)
        return replace(result, loss=-result.loss) if self.batches > 12 else result


@pytest.mark.parametrize("ema", [0.0, 0.8])
def test_early_stopping_keeps_the_best_weights(tmp_path: Path, ema: float) -> None:
    trainer = replace(TRAINER, val_check_interval=0.1)
    config = replace(CONFIG, early_stopping=1, ema=ema, trainer=trainer)
    aligner = Spoils()
    draft, report = train(tmp_path, aligner, config)
    assert report.tokens == tokens_of(aligner.batches) < TOKENS
    alphas = curve(tmp_path, "val_alpha")
    assert alphas.index(max(alphas)) == len(alphas) - 2, "it ends at the first that is worse"
    made = make_packed_batch([[each] for each in toy_answers()[:2]], toy_target().head)
    assert made.teacher is not None
    width = toy_target().vocabulary_size
    kept = score_batch(draft, made.batch, made.teacher, width, 0).metrics()["val_alpha"]
    assert float(kept) == pytest.approx(max(alphas), abs=1e-4)


def test_averaged_weights_are_not_the_last_ones(tmp_path: Path) -> None:
    averaged, _ = train(tmp_path / "averaged", config=replace(CONFIG, ema=0.8))
    plain, _ = train(tmp_path / "plain")
    assert not same(averaged, plain)


def test_a_logger_that_is_not_installed_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ModelError, match=r"pip install 'taskspec-decoding\[wandb\]'"):
        train(tmp_path, config=replace(CONFIG, loggers=["wandb"]))


def test_block_efficiency_counts_the_token_after_the_accepted_ones() -> None:
    """A draft that is the target accepts all: five tokens per pass at draft length 4."""
    target = toy_target()
    draft = CausalLM(CausalLMOptions(), target.model)
    answer = greedy_answer(length=11)
    made = make_packed_batch([[answer]], target.head)
    assert made.teacher is not None
    metrics = score_batch(draft, made.batch, made.teacher, target.vocabulary_size, 0).metrics()
    assert float(metrics["val_alpha"]) == pytest.approx(1.0, abs=1e-5)
    assert float(metrics["val_block_efficiency"]) == 5.0


def greedy_answer(length: int) -> Any:
    """What the toy target says to its first prompt, with its view of it."""
    target, first = toy_target(), toy_answers()[0]
    decoder: Any = target.model.get_decoder()  # type: ignore[operator]
    text = list(first.prompt_ids)
    with torch.no_grad():
        for _ in range(length):
            states = decoder(input_ids=torch.tensor([text])).last_hidden_state
            text.append(int(target.head(states[:, -1]).argmax()))
        hidden = decoder(input_ids=torch.tensor([text[:-1]])).last_hidden_state[0]
    hidden = hidden[len(first.prompt_ids) - 1 :]
    return replace(
        first,
        answer_ids=tuple(text[len(first.prompt_ids) :]),
        hidden=hidden,
        log_normalizer=target.head(hidden).detach().logsumexp(-1),
    )
