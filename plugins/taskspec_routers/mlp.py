"""A network with one hidden layer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from scipy.special import softmax
from torch import Tensor, nn

from taskspec.interfaces import Router, option
from taskspec_routers.training import Schedule, fit_classifier, task_logits

_WEIGHTS, _SHAPE = "mlp.safetensors", "mlp.json"
_DROPOUT = 0.1


@dataclass(frozen=True)
class MLPOptions:
    """Options of `mlp`."""

    hidden: int = option(64, "Width of the hidden layer.")
    epochs: int = option(20, "Passes over the training prompts.")
    learning_rate: float = option(5e-3, "Peak learning rate.")
    batch_size: int = option(32, "Prompts per step.")

    def __post_init__(self) -> None:
        for name in ("hidden", "epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        if not self.learning_rate > 0:
            raise ValueError("learning_rate must be positive")


class MLP(Router):
    """Prompt vectors through one hidden layer, trained with Lightning and calibrated."""

    name = "mlp"
    Options = MLPOptions

    def __init__(self, options: MLPOptions | None = None) -> None:
        super().__init__(options)
        self._network: Any = None
        self._factor = 1.0

    def fit(self, vectors: NDArray[np.float32], labels: NDArray[np.int64], seed: int) -> None:
        """Train the network."""
        options = self.options
        schedule = Schedule(options.epochs, options.batch_size, options.learning_rate, folds=5)
        self._network, self._factor = fit_classifier(
            lambda classes: self._make(vectors.shape[1], classes),
            list(vectors),
            labels,
            _stack,
            schedule,
            seed,
        )

    def predict_proba(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Task probabilities float32 [B, C]."""
        assert self._network is not None, "fit or load the router first"
        scores = task_logits(self._network, list(vectors), _stack) * self._factor
        return np.asarray(softmax(scores, axis=1), dtype=np.float32)

    def save(self, folder: Path) -> None:
        """Write the weights, and the shape that they have."""
        assert self._network is not None, "fit the router first"
        save_file(self._network.state_dict(), folder / _WEIGHTS)
        first, last = self._network[0], self._network[-1]
        shape = {"inputs": first.in_features, "tasks": last.out_features, "factor": self._factor}
        (folder / _SHAPE).write_text(json.dumps(shape), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, options: MLPOptions) -> Self:
        """Restore the network."""
        router = cls(options)
        shape = json.loads((folder / _SHAPE).read_text(encoding="utf-8"))
        with torch.random.fork_rng(devices=[]):
            router._network = router._make(shape["inputs"], shape["tasks"]).requires_grad_(False)
        router._network.load_state_dict(load_file(folder / _WEIGHTS))
        router._network.eval()
        router._factor = shape["factor"]
        return router

    def _make(self, inputs: int, classes: int) -> nn.Module:
        return nn.Sequential(
            nn.Linear(inputs, self.options.hidden),
            nn.GELU(),
            nn.Dropout(_DROPOUT),
            nn.Linear(self.options.hidden, classes),
        )


def _stack(vectors: Sequence[NDArray[np.float32]]) -> Tensor:
    return torch.from_numpy(np.stack(vectors))
