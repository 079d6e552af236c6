"""A training that is told to end saves what it did, and goes on as if nothing had happened."""

from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from trainings import CONFIG, TRAINER, CutOff, planned, rows, same, train

from taskspec.errors import Terminated
from taskspec.interfaces import AlignmentLoss


@pytest.mark.parametrize(("together", "told", "ended"), [(1, 7, 7), (2, 7, 8), (4, 9, 12)])
def test_sigterm_saves_after_the_step_and_nothing_is_done_twice(
    tmp_path: Path, together: int, told: int, ended: int
) -> None:
    config = replace(CONFIG, trainer=replace(TRAINER, accumulate_grad_batches=together))
    whole, report = train(tmp_path / "whole", config=config)
    handler = signal.getsignal(signal.SIGTERM)
    begun = CutOff(told)
    with pytest.raises(Terminated, match="saved"):
        train(tmp_path / "cut", begun, config)
    assert signal.getsignal(signal.SIGTERM) is handler
    rest = CutOff()
    continued, report_of_both = train(tmp_path / "cut", rest, config)
    assert same(continued, whole) and report_of_both.tokens == report.tokens
    assert (begun.batches, rest.batches) == (ended, len(planned()) - ended)
    for name in ("loss", "val_alpha"):
        assert rows(tmp_path / "cut", name) == rows(tmp_path / "whole", name)


def test_a_power_cut_within_a_step_loses_none_of_its_batches(tmp_path: Path) -> None:
    config = replace(CONFIG, trainer=replace(TRAINER, accumulate_grad_batches=2))
    whole, _ = train(tmp_path / "whole", config=config)
    # The second attempt begins where the first one saved, and ends within the next step.
    for after in (23, 2):
        with pytest.raises(RuntimeError, match="power cut"):
            train(tmp_path / "cut", CutOff(after, by_signal=False), config)
    rest = CutOff()
    continued, _ = train(tmp_path / "cut", rest, config)
    assert same(continued, whole) and rest.batches == len(planned()) - 20
    assert rows(tmp_path / "cut", "loss") == rows(tmp_path / "whole", "loss")


@pytest.mark.parametrize("by_signal", [True, False])
def test_a_scoring_that_is_due_where_it_is_saved_is_not_left_out(
    tmp_path: Path, by_signal: bool
) -> None:
    """Steps 10, 20 and so on are saved and scored."""
    share = 10.5 / len(planned())
    config = replace(CONFIG, early_stopping=9, trainer=replace(TRAINER, val_check_interval=share))
    whole, report = train(tmp_path / "whole", config=config)
    error = Terminated if by_signal else RuntimeError
    with pytest.raises(error):
        train(tmp_path / "cut", CutOff(10 if by_signal else 11, by_signal), config)
    assert len(rows(tmp_path / "cut", "val_alpha")) == 1
    continued, report_of_both = train(tmp_path / "cut", config=config)
    assert same(continued, whole) and report_of_both.held_out == report.held_out
    assert rows(tmp_path / "cut", "val_alpha") == rows(tmp_path / "whole", "val_alpha")


def test_sigterm_in_the_last_batch_ends_the_process_too(tmp_path: Path) -> None:
    config = replace(CONFIG, ema=0.8)
    whole, _ = train(tmp_path / "whole", config=config)
    with pytest.raises(Terminated, match="saved"):
        train(tmp_path / "cut", CutOff(len(planned())), config)
    continued, _ = train(tmp_path / "cut", config=config)
    assert same(continued, whole)


@pytest.mark.parametrize(
    "extra", [{"ema": 0.8}, {"early_stopping": 9}, {"ema": 0.8, "early_stopping": 9}]
)
def test_a_cut_off_training_goes_on_with_all_that_belongs_to_it(
    tmp_path: Path, extra: dict[str, Any]
) -> None:
    config = replace(CONFIG, **extra)
    whole, _ = train(tmp_path / "whole", config=config)
    with pytest.raises(RuntimeError, match="power cut"):
        train(tmp_path / "cut", CutOff(13, by_signal=False), config)
    continued, _ = train(tmp_path / "cut", config=config)
    assert same(continued, whole)


class Drawing(CutOff):
    """Its loss is drawn, as with dropout."""

    def loss(self, *arguments: Any) -> AlignmentLoss:
        """The loss, by a factor of chance."""
        found = super().loss(*arguments)
        return replace(found, loss=found.loss * (0.5 + torch.rand(())))


def test_what_is_drawn_while_training_is_the_same_after_an_interruption(tmp_path: Path) -> None:
    whole, _ = train(tmp_path / "whole", Drawing())
    with pytest.raises(Terminated, match="saved"):
        train(tmp_path / "cut", Drawing(9))
    continued, _ = train(tmp_path / "cut", Drawing())
    assert same(continued, whole)
    plain, _ = train(tmp_path / "plain", CutOff())
    assert not same(plain, whole)
