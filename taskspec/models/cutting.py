"""Cutting a draft out of a target: fewer layers, narrower MLPs, a trimmed output vocabulary."""

from __future__ import annotations

import copy
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from taskspec.errors import ModelError

_WEIGHTS = "model.safetensors"
_CONFIG = "config.json"
_VOCABULARY = "vocabulary"
_MLP = ("gate_proj", "up_proj", "down_proj")


def choose_layers(total: int, keep: int) -> tuple[int, ...]:
    """Layers to keep: the first ones and the last.

    The first layers read the text, the last writes for the output head; those between refine.
    With one layer kept, the first stays.

    Args:
        total: Layers of the model.
        keep: Layers wanted, 1..total.

    Raises:
        ModelError: When `keep` is out of range.
    """
    if not 1 <= keep <= total:
        raise ModelError(f"cannot keep {keep} of {total} layers; choose 1 to {total}")
    if keep == 1:
        return (0,)
    return (*range(keep - 1), total - 1)


def choose_vocabulary(
    sequences: Iterable[Sequence[int]], size: int, vocabulary_size: int, always: Iterable[int]
) -> Tensor:
    """The most frequent token ids, as in FR-Spec (arXiv 2502.14856).

    Args:
        sequences: Token ids to count.
        size: Ids wanted.
        vocabulary_size: Ids of the whole vocabulary.
        always: Ids that must be in, such as the end tokens.

    Returns:
        int64 [size], ascending; filled up with the lowest unused ids when too few occur.
    """
    counts: Counter[int] = Counter()
    for sequence in sequences:
        counts.update(sequence)
    chosen = dict.fromkeys(always)
    for token, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        if len(chosen) >= size:
            break
        if token < vocabulary_size:
            chosen[token] = None
    for token in range(vocabulary_size):
        if len(chosen) >= size:
            break
        chosen.setdefault(token)
    return torch.tensor(sorted(chosen), dtype=torch.int64)


def cut_language_model(
    model: nn.Module,
    layers: int | Sequence[int],
    vocabulary: Tensor | None,
    mlp_width: int = 0,
) -> nn.Module:
    """A smaller copy of a causal LM.

    Args:
        model: A transformers causal LM whose decoder holds its blocks in `layers`.
        layers: Indices of the layers to keep, ascending, or how many `choose_layers` keeps.
        vocabulary: int64 [Vd] ids that the output head keeps; None keeps all. The input
            embedding stays whole, because a draft reads any token of the text.
        mlp_width: Neurons kept in the MLP of every layer; 0 keeps all.

    Returns:
        A model of the same class with trainable parameters of its own.

    Raises:
        ModelError: When the architecture keeps its layers elsewhere, or its MLP is not gated or
            narrower than asked for.
    """
    source: Any = model
    decoder = source.get_decoder()
    if not isinstance(getattr(decoder, "layers", None), nn.ModuleList):
        raise ModelError(
            f"{type(model).__name__} keeps its layers in a place TaskSpec does not know; "
            "use a draft loaded from a folder (causal-lm with `model:`) instead of a cut one"
        )
    if isinstance(layers, int):
        layers = choose_layers(len(decoder.layers), layers)
    unwanted = {id(layer): None for i, layer in enumerate(decoder.layers) if i not in set(layers)}
    # deepcopy consults the memo first, so layers that are not kept are never copied.
    memo: dict[int, Any] = {key: nn.Identity() for key in unwanted}
    cut: Any = copy.deepcopy(model, memo)
    kept = [cut.get_decoder().layers[index] for index in layers]
    for module in cut.modules():
        # What watched the whole model (transformers' capturing of states) cannot be pickled.
        module._forward_hooks.clear()
    for index, layer in enumerate(kept):
        for module in layer.modules():
            if hasattr(module, "layer_idx"):
                module.layer_idx = index
    cut.get_decoder().layers = nn.ModuleList(kept)
    for config in {id(c): c for c in (cut.config, cut.get_decoder().config)}.values():
        config.num_hidden_layers = len(layers)
        if getattr(config, "layer_types", None):
            config.layer_types = [config.layer_types[index] for index in layers]
    if mlp_width:
        _narrow_mlps(cut, mlp_width)
    _trim_head(cut, vocabulary)
    cut.requires_grad_(True)
    result: nn.Module = cut
    return result


def _narrow_mlps(model: Any, width: int) -> None:
    """Keep the neurons of every gated MLP whose weights say that they matter most.

    A neuron's score is the product of the norms of what leads into it and out of it.
    """
    for layer in model.get_decoder().layers:
        mlp: Any = getattr(layer, "mlp", None)
        parts: list[Any] = [getattr(mlp, name, None) for name in _MLP]
        if not all(isinstance(part, nn.Linear) for part in parts):
            raise ModelError(
                f"the MLP of {type(model).__name__} is none that TaskSpec knows how to narrow; "
                "leave mlp_width at 0"
            )
        gate, up, down = parts
        if width > gate.out_features:
            raise ModelError(
                f"mlp_width={width}, but the target's MLP has {gate.out_features} neurons; "
                "choose at most that, or 0 for all"
            )
        norms = (gate.weight.norm(dim=1), up.weight.norm(dim=1), down.weight.norm(dim=0))
        scores = torch.stack([norm.float() for norm in norms]).prod(dim=0)
        kept = scores.topk(width).indices.sort().values
        mlp.gate_proj, mlp.up_proj = _rows_of(gate, kept), _rows_of(up, kept)
        mlp.down_proj = _linear(down.weight[:, kept], down.bias)
        if hasattr(mlp, "intermediate_size"):
            mlp.intermediate_size = width
    for config in {id(c): c for c in (model.config, model.get_decoder().config)}.values():
        config.intermediate_size = width


def _rows_of(layer: nn.Linear, rows: Tensor) -> nn.Linear:
    """A linear layer with some outputs of another."""
    return _linear(layer.weight[rows], None if layer.bias is None else layer.bias[rows])


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """A linear layer with these weights, copied; no generator is asked for others."""
    outputs, inputs = weight.shape
    layer = nn.Linear(inputs, outputs, bias=bias is not None, device="meta")
    layer.weight = nn.Parameter(weight.detach().clone())
    if bias is not None:
        layer.bias = nn.Parameter(bias.detach().clone())
    return layer


def keep_head_rows(model: Any, rows: Tensor) -> None:
    """Leave a cut model's output head some of its rows, int64 [Vd]."""
    old = model.get_output_embeddings()
    head = _rows_of(old, rows.to(old.weight.device))
    model.set_output_embeddings(head.requires_grad_(old.weight.requires_grad))


def _trim_head(model: Any, vocabulary: Tensor | None) -> None:
    """Give the model an output head of its own with these rows."""
    old = model.get_output_embeddings()
    head = _linear(old.weight, old.bias) if vocabulary is None else _rows_of(old, vocabulary)
    model.config.tie_word_embeddings = False
    model.set_output_embeddings(head)


def save_cut_model(model: nn.Module, vocabulary: Tensor | None, folder: Path) -> None:
    """Write configuration and weights; `vocabulary` travels with the weights."""
    untyped: Any = model
    state = {name: tensor.detach().contiguous() for name, tensor in model.state_dict().items()}
    if vocabulary is not None:
        state[_VOCABULARY] = vocabulary
    save_file(state, folder / _WEIGHTS)
    config = {"class": type(model).__name__, "config": untyped.config.to_dict()}
    (folder / _CONFIG).write_text(json.dumps(config, indent=1, default=str), encoding="utf-8")


def load_cut_model(
    folder: Path, dtype: torch.dtype, device: torch.device
) -> tuple[nn.Module, Tensor | None]:
    """Load what `save_cut_model` wrote.

    Returns:
        The model in evaluation mode, and the vocabulary of its head.

    Raises:
        ModelError: When the folder holds no such model.
    """
    import transformers

    try:
        saved = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
        state = load_file(folder / _WEIGHTS)
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder} holds no draft model ({error}); run the recipe again") from None
    vocabulary = state.pop(_VOCABULARY, None)
    model_class = getattr(transformers, saved["class"])
    config = model_class.config_class.from_dict(saved["config"])
    config._attn_implementation = "sdpa"
    # The first weights, replaced below, would be drawn from the global generator.
    with torch.random.fork_rng(devices=[]):
        model = model_class(config)
        head = model.get_output_embeddings()
        name = next(n for n, module in model.named_modules() if module is head)
        rows, width = state[f"{name}.weight"].shape
        model.set_output_embeddings(nn.Linear(width, rows, bias=f"{name}.bias" in state))
    model.load_state_dict(state)
    # Only parameters change dtype: rotary frequencies are buffers and must stay in float32.
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
    return model.to(device).eval(), vocabulary
