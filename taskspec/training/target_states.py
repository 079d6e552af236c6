"""The target run over training batches."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from taskspec.decoding.cached_model import CachedModel
from taskspec.interfaces import TrainingBatch
from taskspec.training.attention import final_states
from taskspec.training.batches import segments_of
from taskspec.training.teacher import Head


class TargetStates:
    """Runs the target over batches, on whatever device they are.

    A CPU may have to emulate products of 16 bits, many times slower, so there a target in 16 bits
    runs as the engine runs it, text by text; elsewhere a batch is one pass.

    It is no module on purpose: what holds it must neither train the target nor save it.

    Args:
        model: The target; copied once to every other device that asks.
        head: Its output head.
    """

    def __init__(self, model: nn.Module, head: Head) -> None:
        untyped: Any = model
        self._models: dict[torch.device, tuple[Any, Head]] = {untyped.device: (model, head)}
        self._running: dict[torch.device, CachedModel] = {}

    def __deepcopy__(self, memo: dict[int, Any]) -> TargetStates:
        """The same one: what is copied in training reads the same target."""
        return self

    def model(self, device: torch.device) -> Any:
        """The transformers model on a device."""
        return self._on(device)[0]

    def head(self, device: torch.device) -> Head:
        """Its output head there."""
        return self._on(device)[1]

    def running(self, device: torch.device) -> CachedModel:
        """The target with a cache, all rows empty."""
        if device not in self._running:
            self._running[device] = CachedModel(*self._on(device))
        running = self._running[device]
        for row in range(len(running.lengths)):
            running.rollback(row, 0)
        return running

    @torch.inference_mode()
    def read(self, batch: TrainingBatch) -> Tensor:
        """Final normalised states, float [B, T, H], of inference mode; no meaning at padding."""
        device = batch.tokens.device
        model = self.model(device)
        with torch.autocast(device.type, enabled=False):
            if self._as_served(device):
                return self._text_by_text(batch)
            return final_states(model, batch)

    @torch.inference_mode()
    def logits(self, states: Tensor) -> Tensor:
        """What the head makes of final states [A, H], float [A, V], of inference mode."""
        device = states.device
        head = self.running(device).head if self._as_served(device) else self.head(device)
        with torch.autocast(device.type, enabled=False):
            return head(states)

    def _as_served(self, device: torch.device) -> bool:
        return device.type == "cpu" and self.model(device).dtype != torch.float32

    def _text_by_text(self, batch: TrainingBatch) -> Tensor:
        running = self.running(batch.tokens.device)
        width = running.config.hidden_size
        states = torch.zeros(*batch.tokens.shape, width, dtype=running.dtype)
        for part in segments_of(batch):
            place = part.row, slice(part.first, part.end)
            states[place] = running.forward([0], batch.tokens[place][None])[0]
            running.rollback(0, 0)
        return states

    def _on(self, device: torch.device) -> tuple[Any, Head]:
        if device not in self._models:
            first = next(iter(self._models.values()))
            # One copy of both, so that a head that is part of the model stays so.
            model, head = copy.deepcopy(first)
            head = head.to(device) if isinstance(head, nn.Module) else head
            self._models[device] = model.to(device), head
        return self._models[device]
