"""Attention within the texts of training batches."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from taskspec.interfaces import TrainingBatch
from taskspec.models.attention import sliding_window


def attention_masks(batch: TrainingBatch, config: Any) -> Tensor | dict[str, Tensor]:
    """Who attends to whom: causally, within one's segment.

    Args:
        batch: The batch.
        config: The decoder's transformers configuration, for sliding windows.

    Returns:
        bool [B, 1, T, T], or one per layer type where layers differ. Padding attends to itself,
        so that no row of the softmax is empty.
    """
    same = batch.segments[:, :, None] == batch.segments[:, None, :]
    order = torch.arange(batch.tokens.shape[1], device=batch.tokens.device)
    distance = order[:, None] - order[None, :]
    full = (same & (distance >= 0))[:, None]
    window = sliding_window(config)
    if window is None:
        return full
    sliding = full & (distance < window)
    if "full_attention" in (getattr(config, "layer_types", None) or ()):
        return {"full_attention": full, "sliding_attention": sliding}
    return sliding


def final_states(model: Any, batch: TrainingBatch) -> Tensor:
    """Final normalised states float [B, T, H] of a causal LM over a batch."""
    decoder = model.get_decoder()
    states: Tensor = decoder(
        input_ids=batch.tokens,
        attention_mask=attention_masks(batch, decoder.config),
        position_ids=batch.positions,
        use_cache=False,
    ).last_hidden_state
    return states
