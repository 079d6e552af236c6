"""A causal language model with a row cache: the one way the engine runs target and drafts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from taskspec.decoding.packing import packed
from taskspec.decoding.row_cache import RowCache, Window
from taskspec.models.attention import sliding_window

_FINAL = -1
"""The layer index of the final normalised state."""


class CachedModel:
    """Runs a transformers causal LM on rows of different lengths.

    Args:
        model: The causal LM, with scaled-dot-product attention.
        head: Final hidden states [..., H] to logits [..., Vd].
        rows: Rows to make room for at first.
        length: Positions to make room for at first.
    """

    def __init__(
        self,
        model: nn.Module,
        head: Callable[[Tensor], Tensor],
        rows: int = 1,
        length: int = 512,
    ) -> None:
        untyped: Any = model
        decoder = untyped.get_decoder()
        self.decoder = packed(decoder)
        self.head = packed(head) if isinstance(head, nn.Module) else head
        self.config = decoder.config
        self.device: torch.device = untyped.device
        self.dtype: torch.dtype = untyped.dtype
        self.sliding_window = sliding_window(self.config)
        self.mixed_layers = self.sliding_window is not None and "full_attention" in (
            getattr(self.config, "layer_types", None) or ()
        )
        self.cache = RowCache(self.config.num_hidden_layers, rows, length)

    def length(self, row: int) -> int:
        """Valid cache positions of a row."""
        return self.cache.lengths[row] if row < len(self.cache.lengths) else 0

    def rollback(self, row: int, length: int) -> None:
        """Forget a row's positions from `length` on."""
        if length > self.length(row):
            raise ValueError(f"row {row} holds {self.length(row)} positions, fewer than {length}")
        if row < len(self.cache.lengths):
            self.cache.lengths[row] = length

    @torch.inference_mode()
    def forward(
        self,
        rows: Sequence[int],
        tokens: Tensor,
        counts: Sequence[int] | None = None,
        hidden_layers: tuple[int, ...] = (_FINAL,),
    ) -> Tensor:
        """Append tokens to rows and run the model over them.

        Args:
            rows: B row numbers.
            tokens: int64 [B, T]; row b's first counts[b] are real, the rest padding.
            counts: Real tokens of each row; None when all are. The rows' lengths grow by these.
            hidden_layers: Which hidden states to return, side by side; -1 is the final
                normalised one.

        Returns:
            float [B, T, H * len(hidden_layers)]; padding positions hold no meaning.
        """
        width = tokens.shape[1]
        window = self.cache.open(rows, width, self.device)
        # Asked for earlier layers, transformers keeps all of them, by hooks that stay on the model.
        last_only = set(hidden_layers) == {_FINAL}
        output = self.decoder(
            input_ids=tokens,
            attention_mask=self._mask(window),
            position_ids=window.positions,
            past_key_values=self.cache,
            use_cache=True,
            output_hidden_states=not last_only,
        )
        for index, row in enumerate(rows):
            self.cache.lengths[row] += width if counts is None else counts[index]
        final: Tensor = output.last_hidden_state
        if hidden_layers == (_FINAL,):
            return final
        earlier = () if last_only else output.hidden_states[:-1]
        states = (*earlier, final)
        return torch.cat([states[layer] for layer in hidden_layers], dim=-1)

    def _mask(self, window: Window) -> Tensor | dict[str, Tensor]:
        """Which keys each query sees: additive [B, 1, T, end], per layer type where they differ."""
        keys = torch.arange(window.end, device=self.device)
        queries = window.positions[:, None, :, None]
        full = keys <= queries
        if self.sliding_window is None:
            return self._additive(full)
        sliding = self._additive(full & (keys > queries - self.sliding_window))
        if not self.mixed_layers:
            return sliding
        return {"full_attention": self._additive(full), "sliding_attention": sliding}

    def _additive(self, visible: Tensor) -> Tensor:
        # Attention would turn a boolean mask into this once per layer.
        mask = torch.zeros(visible.shape, dtype=self.dtype, device=self.device)
        return mask.masked_fill_(~visible, -torch.inf)
