"""Trains the toy draft; started by tests in one process, or in several by torchrun.

python train_toy.py STRATEGY ALIGNER FOLDER [BATCHES_BEFORE_A_POWER_CUT]
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from taskspec_aligners.kd import KD
from taskspec_aligners.lora_kd import LoraKD

from taskspec.interfaces import AlignmentLoss
from taskspec.recipe.alignment import AlignConfig, TrainerConfig
from taskspec.testing.toy_draft import toy_answers, toy_draft
from taskspec.testing.toy_target import toy_target
from taskspec.training.fit import fit
from taskspec.training.packing import answer_tokens, plan_batches

BATCH_TOKENS, BATCHES, STEP_BATCHES, SEED = 48, 48, 2, 5


def cut_off(kind: Any, after: int) -> Any:
    """An aligner that ends its process, saying nothing, after some batches."""

    class CutOff(kind):  # type: ignore[misc]
        batches = 0

        def loss(self, *arguments: Any) -> AlignmentLoss:
            self.batches += 1
            if self.batches == after:
                os._exit(9)
            result: AlignmentLoss = super().loss(*arguments)
            return result

    return CutOff()


def main(strategy: str, aligner: str, folder: str, after: str = "0") -> None:
    """Train for as many batches as every number of processes can share out evenly."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    kind = {"kd": KD, "lora-kd": LoraKD}[aligner]
    answers = toy_answers()
    plan = plan_batches(answers, BATCH_TOKENS, 100_000, SEED)[:BATCHES]
    trainer = TrainerConfig(
        accelerator="cpu",
        devices=str(world),
        strategy=strategy,
        precision="32-true",
        accumulate_grad_batches=STEP_BATCHES // world,
        val_check_interval=0.25,
    )
    draft = toy_draft()
    fit(
        draft,
        cut_off(kind, int(after)) if int(after) else kind(),
        answers,
        toy_target(),
        AlignConfig(batch_tokens=BATCH_TOKENS, trainer=trainer),
        sum(answer_tokens(answers, rows) for rows in plan),
        learning_rate=1e-2,
        seed=SEED,
        folder=Path(folder),
        held_out=answers[:4],
    )
    if os.environ.get("RANK", "0") == "0":
        out = Path(folder) / "draft"
        out.mkdir()
        kind().export(draft, out)


if __name__ == "__main__":
    main(*sys.argv[1:])
