"""Training a small network to tell tasks apart, with Lightning."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from lightning import LightningModule, Trainer
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader

from taskspec.models.quiet import quiet_lightning
from taskspec_routers.calibration import Scores, held_out_scores, inverse_temperature

Collate = Callable[[Sequence[Any]], Any]


@dataclass(frozen=True)
class Schedule:
    """How a network is trained.

    Attributes:
        epochs: Passes over the prompts.
        batch_size: Prompts per step.
        learning_rate: Peak rate; it falls to zero along a cosine.
        weight_decay: AdamW's decay.
        fewest_steps: With few prompts there are more epochs, until there are this many steps.
        folds: Fifths of the prompts that calibrate; each costs one more training.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float = 0.01
    fewest_steps: int = 150
    folds: int = 1


class _Classifier(LightningModule):
    """Cross-entropy of a network's task logits."""

    def __init__(self, network: nn.Module, schedule: Schedule, steps: int) -> None:
        super().__init__()
        self.network, self.schedule, self.steps = network, schedule, steps

    def training_step(self, batch: tuple[Any, Tensor], index: int) -> Tensor:
        inputs, labels = batch
        return nn.functional.cross_entropy(self.network(inputs), labels)

    def configure_optimizers(self) -> Any:
        schedule = self.schedule
        optimizer = torch.optim.AdamW(
            self.parameters(), lr=schedule.learning_rate, weight_decay=schedule.weight_decay
        )
        cosine = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, schedule.learning_rate, total_steps=self.steps + 1, pct_start=0.1
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": cosine, "interval": "step"},
        }


def fit_classifier(
    make: Callable[[int], nn.Module],
    inputs: Sequence[Any],
    labels: NDArray[np.int64],
    collate: Collate,
    schedule: Schedule,
    seed: int,
) -> tuple[nn.Module, float]:
    """Train a network, and calibrate it by others trained without a fifth of the prompts each.

    Args:
        make: From a number of tasks C to a new network, which makes logits [B, C].
        inputs: One entry per prompt.
        labels: int64 [N] in 0..C-1.
        collate: From a list of entries to what the network takes.
        schedule: How it trains.
        seed: Source of all randomness; the caller's generators are left alone.

    Returns:
        The network in evaluation mode, and the factor that calibrates its logits.
    """

    def train(kept: NDArray[np.bool_]) -> nn.Module:
        places = np.flatnonzero(kept).tolist()
        examples = [(inputs[place], int(labels[place])) for place in places]
        with torch.random.fork_rng(devices=[]), quiet_lightning():
            torch.manual_seed(seed)
            return _train(make(int(labels.max()) + 1), examples, collate, schedule, seed)

    def fold(kept: NDArray[np.bool_]) -> Callable[[NDArray[np.bool_]], Scores]:
        network = train(kept)
        return lambda held: task_logits(
            network, [inputs[place] for place in np.flatnonzero(held).tolist()], collate
        )

    factor = inverse_temperature(*held_out_scores(labels, seed, fold, schedule.folds))
    return train(np.ones(len(labels), dtype=bool)), factor


@torch.inference_mode()
def task_logits(
    network: nn.Module, inputs: Sequence[Any], collate: Collate, batch_size: int = 64
) -> NDArray[np.float64]:
    """Logits [N, C] of a network in evaluation mode."""
    batches = [
        network(collate(inputs[first : first + batch_size]))
        for first in range(0, len(inputs), batch_size)
    ]
    logits: NDArray[np.float64] = torch.cat(batches).double().numpy()
    return logits


def _train(
    network: nn.Module,
    examples: Sequence[tuple[Any, int]],
    collate: Collate,
    schedule: Schedule,
    seed: int,
) -> nn.Module:
    def together(batch: Sequence[tuple[Any, int]]) -> tuple[Any, Tensor]:
        return collate([each for each, _ in batch]), torch.tensor([label for _, label in batch])

    loader: DataLoader[Any] = DataLoader(
        examples,  # type: ignore[arg-type]
        schedule.batch_size,
        shuffle=True,
        collate_fn=together,
        generator=torch.Generator().manual_seed(seed),
    )
    epochs = max(schedule.epochs, -(-schedule.fewest_steps // len(loader)))
    trainer = Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=epochs,
        gradient_clip_val=1.0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    module = _Classifier(network, schedule, epochs * len(loader))
    try:
        trainer.fit(module, loader)
    except SystemExit:
        # Lightning turns Ctrl-C into an exit of its own; the caller's handling decides.
        raise KeyboardInterrupt from None
    # A network that has trained keeps references to its trainer; what is kept must not.
    return copy.deepcopy(module.network).requires_grad_(False).eval()
