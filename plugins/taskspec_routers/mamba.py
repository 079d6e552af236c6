"""The paper's router: token embeddings, a Mamba layer, a linear head."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from scipy.special import softmax
from torch import Tensor, nn

from taskspec.interfaces import Router, option
from taskspec.models.quiet import quiet_transformers
from taskspec_routers.training import Schedule, fit_classifier, task_logits

_WEIGHTS, _SHAPE, _TOKENIZER = "mamba.safetensors", "mamba.json", "tokenizer.json"
_PADDING, _BEGINNING = "<pad>", "<s>"


@dataclass(frozen=True)
class MambaOptions:
    """Options of `mamba`."""

    vocabulary: int = option(2000, "Most entries of the tokenizer learnt from the prompts.")
    hidden: int = option(64, "Width of the embeddings and of the Mamba layer.")
    state: int = option(8, "Size of the layer's recurrent state per channel.")
    max_tokens: int = option(128, "Of longer prompts the middle is left out.")
    epochs: int = option(4, "Passes over the training prompts.")
    learning_rate: float = option(5e-3, "Peak learning rate.")
    batch_size: int = option(32, "Prompts per step.")

    def __post_init__(self) -> None:
        for name in ("hidden", "state", "epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        if self.vocabulary < 300:
            raise ValueError("vocabulary must be at least 300: all bytes, and some words")
        if self.max_tokens < 2:
            raise ValueError("max_tokens must be at least 2")
        if not self.learning_rate > 0:
            raise ValueError("learning_rate must be positive")


class Mamba(Router):
    """Reads the prompt itself, token by token, as the router of TaskSpec (arXiv 2505.08600) does.

    A byte-level BPE learnt from the training prompts, so that no word is unknown; embeddings, one
    Mamba layer (arXiv 2312.00752) of transformers, the mean over tokens, a linear head. Trained
    from nothing with Lightning, then calibrated. Slower than routers on vectors, which share
    nothing with it: no encoder is run.
    """

    name = "mamba"
    Options = MambaOptions
    reads_text = True

    def __init__(self, options: MambaOptions | None = None) -> None:
        super().__init__(options)
        self._tokenizer: Any = None
        self._network: _Network | None = None
        self._factor = 1.0

    def fit(self, texts: Sequence[str], labels: NDArray[np.int64], seed: int) -> None:
        """Learn the tokenizer, then the network."""
        self._tokenizer = _learn_tokenizer(texts, self.options.vocabulary)
        schedule = Schedule(
            self.options.epochs,
            self.options.batch_size,
            self.options.learning_rate,
            fewest_steps=100,
        )
        # transformers says of every kernel that is not installed that it has a slower way.
        with quiet_transformers():
            network, self._factor = fit_classifier(
                self._make, self._encode(texts), labels, _pad, schedule, seed
            )
        assert isinstance(network, _Network)
        self._network = network

    def predict_proba(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Task probabilities float32 [B, C]."""
        assert self._network is not None, "fit or load the router first"
        with quiet_transformers():
            scores = task_logits(self._network, self._encode(texts), _pad) * self._factor
        return np.asarray(softmax(scores, axis=1), dtype=np.float32)

    def save(self, folder: Path) -> None:
        """Write tokenizer, weights, and the shape that they have."""
        assert self._network is not None, "fit the router first"
        self._tokenizer.save(str(folder / _TOKENIZER))
        save_file(self._network.state_dict(), folder / _WEIGHTS)
        shape = {"tasks": self._network.head.out_features, "factor": self._factor}
        (folder / _SHAPE).write_text(json.dumps(shape), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, options: MambaOptions) -> Self:
        """Restore tokenizer and network."""
        from tokenizers import Tokenizer

        router = cls(options)
        router._tokenizer = Tokenizer.from_file(str(folder / _TOKENIZER))
        shape = json.loads((folder / _SHAPE).read_text(encoding="utf-8"))
        with torch.random.fork_rng(devices=[]):
            router._network = router._make(shape["tasks"]).requires_grad_(False).eval()
        router._network.load_state_dict(load_file(folder / _WEIGHTS))
        router._factor = shape["factor"]
        return router

    def _make(self, classes: int) -> _Network:
        size = self._tokenizer.get_vocab_size()
        return _Network(size, self.options.hidden, self.options.state, classes)

    def _encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids, none empty: a mark of the beginning, then those of the text."""
        begin = self._tokenizer.token_to_id(_BEGINNING)
        most = self.options.max_tokens
        encoded = []
        for each in self._tokenizer.encode_batch(list(texts)):
            ids = each.ids
            if len(ids) > most:
                ids = ids[: most - most // 2] + ids[-(most // 2) :]
            encoded.append([begin, *ids])
        return encoded


class _Network(nn.Module):
    """Embeddings, one Mamba layer, mean over tokens, linear head."""

    def __init__(self, vocabulary: int, hidden: int, state: int, classes: int) -> None:
        from transformers import MambaConfig, MambaModel

        super().__init__()
        config: Any = MambaConfig(
            vocab_size=vocabulary,
            hidden_size=hidden,
            state_size=state,
            num_hidden_layers=1,
            use_cache=False,
        )
        self.decoder = MambaModel(config)
        self.head = nn.Linear(hidden, classes)

    def forward(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        """Logits [B, C] of token ids [B, T], padded on the right, and their mask."""
        tokens, real = batch
        # What follows a token changes nothing about it, so the padding behind needs no mask here.
        states = self.decoder(input_ids=tokens, use_cache=False).last_hidden_state
        weights = real[..., None].to(states.dtype)
        logits: Tensor = self.head((states * weights).sum(dim=1) / weights.sum(dim=1))
        return logits


def _pad(texts: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Token ids and mask, [B, T] each."""
    tokens = nn.utils.rnn.pad_sequence([torch.tensor(each) for each in texts], batch_first=True)
    lengths = torch.tensor([len(each) for each in texts])
    return tokens, torch.arange(tokens.shape[1]) < lengths[:, None]


def _learn_tokenizer(texts: Sequence[str], vocabulary: int) -> Any:
    """A byte-level BPE of lower-cased text."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    tokenizer: Any = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    trainer: Any = trainers.BpeTrainer(
        vocab_size=vocabulary,
        min_frequency=2,
        special_tokens=[_PADDING, _BEGINNING],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer
