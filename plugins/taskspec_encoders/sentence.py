"""Any sentence-transformers model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError

from taskspec.errors import ModelError, PluginError
from taskspec.interfaces import Encoder, option
from taskspec.models.catalog import CATALOG, suggest
from taskspec.models.fetching import ensure_fetched
from taskspec.models.hub import HubAnswer, ask_hub
from taskspec.models.quiet import quiet_transformers

_LISTED = "`taskspec models` lists what the catalog knows"


@dataclass(frozen=True)
class SentenceOptions:
    """Options of `sentence`."""

    model: str = option(
        "all-minilm-l6-v2", "Catalog name, hub id or folder of a sentence-transformers model."
    )
    batch_size: int = option(64, "Texts encoded together.")

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError("batch_size must be at least 1")


class Sentence(Encoder):
    """Embeddings of a sentence-transformers model, rows of unit length (arXiv 1908.10084)."""

    name = "sentence"
    Options = SentenceOptions

    def __init__(self, options: SentenceOptions | None = None) -> None:
        super().__init__(options)
        self._loaded: Any = None

    def fit(self, texts: Sequence[str]) -> None:
        """Nothing to learn; loads the model, so that a wrong one is noticed here."""
        self._model()

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors float32 [N, D]."""
        if not texts:
            width = self._model().get_sentence_embedding_dimension()
            return np.zeros((0, width), dtype=np.float32)
        vectors: NDArray[np.float32] = self._model().encode(
            list(texts),
            batch_size=self.options.batch_size,
            normalize_embeddings=True,
            show_progress_bar=False,
            convert_to_numpy=True,
        )
        return vectors.astype(np.float32)

    def save(self, folder: Path) -> None:
        """Write which model it is; its weights stay where they are."""
        value = {"model": self.options.model}
        (folder / "sentence.json").write_text(json.dumps(value), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, options: SentenceOptions) -> Self:
        """Restore; the model is loaded on first use."""
        saved = json.loads((folder / "sentence.json").read_text(encoding="utf-8"))
        if saved["model"] != options.model:
            raise ModelError(
                f"{folder} was made with encoder model {saved['model']}, not {options.model}"
            )
        return cls(options)

    def _model(self) -> Any:
        if self._loaded is None:
            try:
                from sentence_transformers import SentenceTransformer
            except ImportError:
                raise PluginError(
                    "encoder 'sentence' needs sentence-transformers; "
                    "run: pip install 'taskspec-decoding[sentence]'"
                ) from None
            name = self.options.model
            place, offline = _place(name)
            try:
                with quiet_transformers():
                    self._loaded = SentenceTransformer(place, local_files_only=offline)
            except (OSError, ValueError, SafetensorError) as error:
                reason = str(error).partition("\n")[0]
                where = "the folder" if Path(place).is_dir() else f"{place} on the hub"
                raise ModelError(
                    f"no sentence-transformers model '{name}': {where} holds none that is whole "
                    f"({reason}); {_LISTED}"
                ) from None
        return self._loaded


def _place(name: str) -> tuple[str, bool]:
    """Where a model is, and whether only files that are already here may be used.

    The hub is asked first, because loading by an unknown name retries for more than a minute.

    Raises:
        ModelError: When it is nowhere to be had.
    """
    if name in CATALOG:
        return str(ensure_fetched(name, "sentence-encoder")), True
    if Path(name).is_dir():
        return name, True
    asked = [name] if "/" in name else [f"sentence-transformers/{name}", name]
    answers = []
    for repository in asked:
        answers.append(ask_hub(repository))
        if answers[-1] in (HubAnswer.PRESENT, HubAnswer.CACHED):
            return repository, answers[-1] is HubAnswer.CACHED
    hub = (
        "the hub cannot be reached (check the network and HF_HUB_OFFLINE)"
        if HubAnswer.UNREACHABLE in answers
        else "the hub does not have it"
    )
    raise ModelError(
        f"no sentence-transformers model '{name}': it is not in the catalog"
        f"{suggest(name, 'sentence-encoder')}, not a folder, and {hub}; {_LISTED}"
    )
