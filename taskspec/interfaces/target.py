"""What plugins may ask of the target model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


class Target(Protocol):
    """A causal language model with its tokenizer.

    Attributes:
        model: The transformers causal LM, in evaluation mode.
        tokenizer: Its transformers tokenizer.
        vocabulary_size: Rows of the output head (V).
        hidden_size: Width of the final hidden state (H).
        eos_token_ids: Tokens that end an answer.
        context_length: Longest sequence the model was made for, in tokens.
    """

    @property
    def model(self) -> nn.Module: ...
    @property
    def tokenizer(self) -> Any: ...
    @property
    def vocabulary_size(self) -> int: ...
    @property
    def hidden_size(self) -> int: ...
    @property
    def eos_token_ids(self) -> frozenset[int]: ...
    @property
    def context_length(self) -> int: ...
    @property
    def device(self) -> torch.device: ...
    @property
    def dtype(self) -> torch.dtype: ...

    def head(self, hidden: Tensor) -> Tensor:
        """Final hidden states [..., H] to logits [..., V], caps and scales included."""
        ...
