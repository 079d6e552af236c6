"""From a model's final hidden states to its logits."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from taskspec.errors import ModelError


class _SoftCappedHead(nn.Module):
    """An output head whose logits stay within a cap, as Gemma 2's do."""

    def __init__(self, linear: nn.Linear, cap: float) -> None:
        super().__init__()
        self.linear, self.cap = linear, cap

    def forward(self, hidden: Tensor) -> Tensor:
        """Logits [..., V] of states [..., H]."""
        return torch.tanh(self.linear(hidden) / self.cap) * self.cap


def checked_head(source: str, model: Any) -> nn.Module:
    """The model's output head, shown to give the model's own logits on a few tokens.

    The two rows of tokens differ in the last one only, which earlier logits must not show.

    Raises:
        ModelError: When the model turns hidden states into logits in an unknown way, or sees
            later tokens.
    """
    linear = model.get_output_embeddings()
    cap = getattr(model.config.get_text_config(), "final_logit_softcapping", None)
    head: nn.Module = linear if cap is None else _SoftCappedHead(linear, cap)
    tokens = torch.tensor([[0, 1, 2, 3], [0, 1, 2, 4]], device=model.device)
    tokens = tokens % linear.weight.shape[0]
    with torch.inference_mode():
        ours = head(model.get_decoder()(input_ids=tokens, use_cache=False).last_hidden_state)
        theirs = model(input_ids=tokens, use_cache=False).logits
    change = (theirs[0] - theirs[1]).float().abs().amax(-1)  # [4]
    if change[:-1].max() > 0.01 * change[-1]:
        raise ModelError(
            f"{source} ({type(model).__name__}) sees later tokens, so it is no causal language "
            "model; choose one"
        )
    if not torch.allclose(ours.float(), theirs.float(), rtol=1e-2, atol=1e-2):
        raise ModelError(
            f"{source} ({type(model).__name__}) turns hidden states into logits in a way TaskSpec "
            "does not know; please report the architecture"
        )
    return head
