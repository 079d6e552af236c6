"""The network of a feature draft: one decoder layer over the target's states and embeddings."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from taskspec.errors import ModelError
from taskspec.interfaces import Target
from taskspec.models.attention import sliding_window
from taskspec.models.cutting import cut_language_model

_WEIGHTS, _CONFIG, _VOCABULARY, _HEAD = "model.safetensors", "feature.json", "vocabulary", "head."


@dataclass(frozen=True)
class Borrowed:
    """A part of the target: no submodule of what holds it, neither trained nor saved nor copied."""

    module: nn.Module

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self


class FeatureNetwork(nn.Module):
    """Predicts the target's next final state from its last one and the token that followed.

    State i is predicted as layer(fusion([state i-1; embedding of token i])), normalised as the
    target does; the head turns it into the logits of token i + 1. EAGLE (arXiv 2401.15077,
    section 4.1). Both inputs are brought to one scale first, as in EAGLE-3 (arXiv 2503.01840):
    states are many times larger than embeddings. Before the first token the state is zero.

    Args:
        decoder: A transformers decoder with one layer and a final norm, without embeddings.
        head: The target's output head, or those of its rows that are drafted.
        embedding: The target's input embedding.
        train_head: Whether the head trains with the rest.
    """

    def __init__(
        self, decoder: nn.Module, head: nn.Linear, embedding: nn.Module, train_head: bool
    ) -> None:
        super().__init__()
        size, like = head.in_features, head.weight
        self.fusion = nn.Linear(2 * size, size, bias=False, device=like.device, dtype=like.dtype)
        self.state_norm = nn.RMSNorm(size, eps=1e-6, device=like.device, dtype=like.dtype)
        self.token_norm = nn.RMSNorm(size, eps=1e-6, device=like.device, dtype=like.dtype)
        self.decoder, self.head, self.train_head = decoder, head, train_head
        self._embedding = Borrowed(embedding)
        with torch.no_grad():
            # Both reach the residual stream as they are until training decides.
            self.fusion.weight.copy_(torch.eye(size).repeat(1, 2))

    def forward(
        self,
        states: Tensor,
        embeddings: Tensor,
        mask: Tensor,
        positions: Tensor,
        cache: Any = None,
    ) -> Tensor:
        """Predict the state of every token.

        Args:
            states: float [B, T, H], the final state before each token.
            embeddings: float [B, T, H], of the tokens.
            mask: [B, 1, T, keys], True or 0 where a token attends.
            positions: int64 [B, T], the tokens' positions.
            cache: transformers cache of earlier keys and values; None for none.

        Returns:
            float [B, T, H].
        """
        predicted: Tensor = self.decoder(
            inputs_embeds=self.fuse(states, embeddings),
            attention_mask=mask,
            position_ids=positions,
            cache=cache,
            use_cache=cache is not None,
        ).last_hidden_state
        return predicted

    def fuse(self, states: Tensor, embeddings: Tensor) -> Tensor:
        """What the layer reads, float [B, T, H]."""
        return self.fuse_with(self.fusion, states, embeddings)

    def fuse_with(self, fusion: nn.Module, states: Tensor, embeddings: Tensor) -> Tensor:
        """The same by another copy of `fusion`, laid out for decoding, say."""
        parts = [self.state_norm(states), self.token_norm(embeddings)]
        fused: Tensor = fusion(torch.cat(parts, dim=-1))
        return fused

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """As every module's, but a head that does not train stays frozen."""
        super().requires_grad_(requires_grad)
        if not self.train_head:
            self.head.requires_grad_(False)
        return self

    def get_decoder(self) -> nn.Module:
        """The layer with its norm, as a transformers decoder."""
        return self.decoder

    def get_input_embeddings(self) -> nn.Module:
        """The target's embedding, which is no parameter of this network."""
        return self._embedding.module

    def get_output_embeddings(self) -> nn.Linear:
        """The head."""
        return self.head

    def set_output_embeddings(self, head: nn.Linear) -> None:
        """Put another head in its place."""
        self.head = head

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.fusion.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Their dtype."""
        return self.fusion.weight.dtype


def build_network(target: Target, vocabulary: Tensor | None, train_head: bool) -> FeatureNetwork:
    """A network that begins with the target's first layer, final norm and output head.

    The first layer, made to read embeddings, learns this several times faster than the last.

    Args:
        target: The target.
        vocabulary: int64 [Vd] ids that the head keeps; None keeps all.
        train_head: Whether the head trains.

    Raises:
        ModelError: As `choose_layer`.
    """
    layer = choose_layer(target)
    model: Any = target.model
    # Linear layers draw their first weights, replaced here, from the global generator.
    with torch.random.fork_rng(devices=[]):
        cut: Any = cut_language_model(model, [layer], vocabulary)
        cut.set_input_embeddings(nn.Identity())
        network = FeatureNetwork(
            cut.get_decoder(), cut.get_output_embeddings(), model.get_input_embeddings(), train_head
        )
    return network.requires_grad_().eval()


def choose_layer(target: Target) -> int:
    """The target's first layer that attends to the whole text.

    Raises:
        ModelError: When the architecture is one that a feature draft cannot be made from.
    """
    model: Any = target.model
    name = type(model).__name__
    decoder = model.get_decoder()
    layers = getattr(decoder, "layers", None)
    if not isinstance(layers, nn.ModuleList):
        raise ModelError(
            f"feature: {name} keeps its layers in a place TaskSpec does not know; use causal-lm "
            "with `model:` instead"
        )
    width = getattr(model.get_input_embeddings(), "embedding_dim", None)
    if width != target.hidden_size:
        raise ModelError(
            f"feature: the embeddings of {name} have another width ({width}) than its states "
            f"({target.hidden_size}); use causal-lm instead"
        )
    if sliding_window(decoder.config) is None:
        return 0
    kinds = getattr(decoder.config, "layer_types", None) or ()
    full = [index for index, kind in enumerate(kinds) if kind == "full_attention"]
    if not full:
        raise ModelError(
            f"feature: every layer of {name} has a sliding attention window; use causal-lm instead"
        )
    return full[0]


def save_network(network: FeatureNetwork, vocabulary: Tensor | None, folder: Path) -> None:
    """Write what is not the target's own; `vocabulary` travels with the weights."""
    state = {
        name: tensor.detach().contiguous()
        for name, tensor in network.state_dict().items()
        if network.train_head or not name.startswith(_HEAD)
    }
    if vocabulary is not None:
        state[_VOCABULARY] = vocabulary
    save_file(state, folder / _WEIGHTS)
    config = {
        "hidden_size": network.head.in_features,
        "drafted_tokens": network.head.out_features,
        "trained_head": network.train_head,
    }
    (folder / _CONFIG).write_text(json.dumps(config, indent=1), encoding="utf-8")


def load_network(
    folder: Path, target: Target, train_head: bool
) -> tuple[FeatureNetwork, Tensor | None]:
    """Load what `save_network` wrote, in the target's dtype and on its device.

    Args:
        folder: Where it is.
        target: The target it was made for.
        train_head: Whether the head trains; one that has trained goes on training.

    Returns:
        The network in evaluation mode, and the vocabulary of its head.

    Raises:
        ModelError: When the folder holds no feature draft of this target's shape.
    """
    try:
        config = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
        state = load_file(folder / _WEIGHTS)
        trained_head = bool(config["trained_head"])
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise ModelError(
            f"{folder} holds no feature draft ({error}); run the recipe again"
        ) from None
    vocabulary = state.pop(_VOCABULARY, None)
    network = build_network(target, vocabulary, train_head or trained_head)
    if not trained_head:
        own = network.state_dict()
        state |= {name: own[name] for name in own if name.startswith(_HEAD)}
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise ModelError(
            f"the feature draft in {folder} was made for another target ({error}); "
            "run the recipe again"
        ) from None
    return network, vocabulary
