"""A causal language model with a row cache: the one way the engine runs target and drafts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from taskspec.decoding.at_once import DraftsAtOnce
from taskspec.decoding.fixed_shape import (
    MOST_TOKENS,
    FixedDrafting,
    FixedPasses,
    Inputs,
    wants_fixed_shapes,
)
from taskspec.decoding.fused.decoder import FusedDecoder
from taskspec.decoding.native.decoder import NativeDecoder
from taskspec.decoding.native.drafting import Fusion, GreedyDrafting
from taskspec.decoding.native.linear import NativeLinear
from taskspec.decoding.packing import packed
from taskspec.decoding.row_cache import RowCache, RowCopy, Window
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
        int8: Keep matrices in a byte per weight where the kernels run; fit for drafts, which may
            be a little wrong. Elsewhere nothing changes.
    """

    def __init__(
        self,
        model: nn.Module,
        head: Callable[[Tensor], Tensor],
        rows: int = 1,
        length: int = 512,
        int8: bool = False,
    ) -> None:
        untyped: Any = model
        decoder = untyped.get_decoder()
        self.head = packed(head, int8) if isinstance(head, nn.Module) else head
        self.config = decoder.config
        self.device: torch.device = untyped.device
        self.dtype: torch.dtype = untyped.dtype
        self.sliding_window = sliding_window(self.config)
        self.mixed_layers = self.sliding_window is not None and "full_attention" in (
            getattr(self.config, "layer_types", None) or ()
        )
        self.embed: nn.Module = untyped.get_input_embeddings()
        self.native = NativeDecoder.of(decoder, rows, length, int8)
        self.fixed: FixedPasses | None = None
        if self.native is None:
            self.decoder = packed(decoder)
            self.fused = FusedDecoder.of(decoder)
            self.cache = RowCache(self.config.num_hidden_layers, rows, length)
            if wants_fixed_shapes(self.device):
                self.fixed = FixedPasses(
                    self.cache, self.device, self.config.hidden_size, self.dtype
                )

    @property
    def _store(self) -> RowCache | NativeDecoder:
        """What keeps the rows' keys and values."""
        return self.cache if self.native is None else self.native

    @property
    def lengths(self) -> list[int]:
        """Valid cache positions of each row there is room for."""
        return self._store.lengths

    def length(self, row: int) -> int:
        """Valid cache positions of a row."""
        return self.lengths[row] if row < len(self.lengths) else 0

    def rollback(self, row: int, length: int) -> None:
        """Forget a row's positions from `length` on."""
        if length > self.length(row):
            raise ValueError(f"row {row} holds {self.length(row)} positions, fewer than {length}")
        if row < len(self.lengths):
            self.lengths[row] = length

    @torch.inference_mode()
    def copy_of(self, row: int) -> RowCopy:
        """A copy of a row's keys and values, at least one position."""
        return self._store.copy_of(row)

    @torch.inference_mode()
    def restore(self, row: int, copy: RowCopy) -> None:
        """Let an empty row go on from what was copied."""
        self._store.restore(row, copy)

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
        return self.forward_embeddings(rows, self.embed(tokens), counts, hidden_layers)

    @torch.inference_mode()
    def forward_embeddings(
        self,
        rows: Sequence[int],
        embeddings: Tensor,
        counts: Sequence[int] | None = None,
        hidden_layers: tuple[int, ...] = (_FINAL,),
    ) -> Tensor:
        """As `forward`, from float [B, T, H] in place of tokens."""
        counts = [embeddings.shape[1]] * len(rows) if counts is None else counts
        last = self.config.num_hidden_layers
        layers = [layer % (last + 1) for layer in hidden_layers]
        earlier = sorted(set(layers) - {last})
        if self.native is not None:
            states = self.native.run(rows, embeddings, counts, earlier)
            if layers == [last]:
                return states[:, :, 0]
            order = [last, *earlier]
            return states[:, :, [order.index(layer) for layer in layers]].flatten(2)
        if self.fixed is not None and embeddings.shape[1] <= MOST_TOKENS:
            states = self.fixed.append(
                rows, embeddings, counts, tuple(layers), lambda w, e: self._states(w, e, layers)
            )
        else:
            window = self.cache.open(rows, embeddings.shape[1], self.device, counts)
            states = self._states(window, embeddings, layers)
        for row, count in zip(rows, counts, strict=True):
            self.cache.lengths[row] += count
        return states

    def _states(self, window: Window, embeddings: Tensor, layers: Sequence[int]) -> Tensor:
        """Run transformers' decoder on embeddings [B, T, H] at a window of the cache."""
        if self.fused is not None and embeddings.shape[1] <= MOST_TOKENS:
            return self.fused.run(self.cache, window, embeddings, layers)
        last = self.config.num_hidden_layers
        earlier = set(layers) - {last}
        self.cache.at(window)
        # Asked for earlier layers, transformers keeps all of them, by hooks that stay on the model.
        output = self.decoder(
            inputs_embeds=embeddings,
            attention_mask=self._mask(window),
            position_ids=window.told,
            cache=self.cache,
            use_cache=True,
            output_hidden_states=bool(earlier),
        )
        final: Tensor = output.last_hidden_state
        if list(layers) == [last]:
            return final
        kept = {layer: output.hidden_states[layer] for layer in earlier} | {last: final}
        return torch.cat([kept[layer] for layer in layers], dim=-1)

    def greedy_drafting(
        self,
        vocabulary: Tensor | None,
        inputs: Inputs | None = None,
        fusion: Fusion | None = None,
    ) -> DraftsAtOnce | None:
        """Several greedy tokens in one call, where the kernels or graphs can do it; else None.

        Args:
            vocabulary: int64 token ids of the head's columns; None for all tokens.
            inputs: For a draft that reads states beside embeddings: what its decoder reads.
            fusion: The same for the kernels; None where they cannot do it.
        """
        if self.fixed is not None:
            last = [self.config.num_hidden_layers]

            def states(window: Window, embeddings: Tensor) -> Tensor:
                return self._states(window, embeddings, last)

            read = inputs or (lambda _, tokens: self.embed(tokens))
            return FixedDrafting(self.fixed, states, self.head, read, vocabulary)
        if (
            self.native is None
            or (inputs is not None and fusion is None)
            or not isinstance(self.head, NativeLinear)
            or self.head.bias is not None
            or type(self.embed) is not nn.Embedding
            or self.embed.weight.dtype != torch.bfloat16
        ):
            return None
        return GreedyDrafting(self.native, self.head, self.embed.weight, vocabulary, fusion)

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
