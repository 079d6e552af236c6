"""The target's signal, from the target itself."""

from __future__ import annotations

import torch
from torch import Tensor

from taskspec.interfaces import Target, TrainingBatch
from taskspec.training.target_states import TargetStates
from taskspec.training.teacher import CHUNK, StoredTeacherSignal


class OnlineTeacher:
    """Asks the target itself about a batch.

    Args:
        target: The target.
    """

    def __init__(self, target: Target) -> None:
        self.end_tokens = target.eos_token_ids
        self._target = TargetStates(target.model, target.head)

    def signal(self, batch: TrainingBatch, tokens: Tensor | None = None) -> StoredTeacherSignal:
        """Run the target over a batch.

        Args:
            batch: The batch, on the device to run on.
            tokens: int64 [M], what follows each trained position; None puts the target's most
                likely tokens there.
        """
        states = self._target.read(batch)[batch.trained]
        normalizers, choices = [], []
        with torch.inference_mode():
            for chunk in torch.split(states, CHUNK):
                logits = self._target.logits(chunk).float()
                normalizers.append(logits.logsumexp(-1))
                choices.append(logits.argmax(-1))
        # Tensors of inference mode cannot take part in a training step; copies can.
        said = torch.cat(choices).clone() if tokens is None else tokens
        head = self._target.head(batch.tokens.device)
        return StoredTeacherSignal(said, states.clone(), torch.cat(normalizers).clone(), head)
