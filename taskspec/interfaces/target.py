"""What plugins may ask of the target model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch
    from torch import Tensor, nn


class Target(Protocol):
    """A causal language model with its tokenizer."""

    @property
    def model(self) -> nn.Module:
        """The transformers causal LM."""
        ...

    @property
    def tokenizer(self) -> Any:
        """Its tokenizer."""
        ...

    @property
    def vocabulary_size(self) -> int:
        """V: rows of the output head."""
        ...

    @property
    def hidden_size(self) -> int:
        """H: width of the final hidden state."""
        ...

    @property
    def eos_token_ids(self) -> frozenset[int]:
        """Tokens that end an answer."""
        ...

    @property
    def context_length(self) -> int:
        """Longest sequence, in tokens."""
        ...

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """The weights' dtype."""
        ...

    @property
    def head(self) -> Callable[[Tensor], Tensor]:
        """Turns final hidden states [..., H] into logits [..., V], caps and scales included."""
        ...
