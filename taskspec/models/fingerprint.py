"""Which model it is: by its source without loading it, and by what was loaded."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from taskspec.models.catalog import CATALOG

_NOT_THE_MODEL_S = {"_name_or_path", "transformers_version", "dtype", "_attn_implementation"}
"""Parts of a configuration that say how a model was loaded."""
_OF_A_MODEL = {".safetensors", ".bin", ".json", ".jinja", ".model", ".txt"}
"""Endings of what a model is loaded from: weights, configuration, tokenizer, template."""


def tells_weights(fingerprint: str) -> bool:
    """Whether equal fingerprints mean equal weights: a hub id's may change behind its name."""
    return not fingerprint.startswith("hub:") or "@" in fingerprint


def model_fingerprint(source: str) -> str:
    """Identity of a model's weights without loading them.

    For the catalog: its checksum. For a folder: a digest of weights, configuration and tokenizer.
    For a hub id: the id itself, since its files may not be here yet.
    """
    entry = CATALOG.get(source)
    if entry is not None:
        return entry.fingerprint
    folder = Path(source)
    if not folder.is_dir():
        return f"hub:{source}"
    # sentence-transformers keeps its parts in folders of their own.
    nested = (folder / "modules.json").is_file()
    paths = sorted(folder.rglob("*") if nested else folder.iterdir())
    files = [path for path in paths if path.suffix in _OF_A_MODEL and path.is_file()]
    stats = [path.stat() for path in files]
    return _digest_of(
        folder.resolve(),
        tuple(path.relative_to(folder).as_posix() for path in files),
        tuple((stat.st_size, stat.st_mtime_ns) for stat in stats),
    )


@cache
def _digest_of(folder: Path, names: tuple[str, ...], stamps: tuple[tuple[int, int], ...]) -> str:
    """SHA-256 of files; those whose stamps stayed are not read again by this process."""
    digest = hashlib.sha256()
    for name in names:
        digest.update(name.encode())
        with (folder / name).open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def with_commit(fingerprint: str, source: str) -> str:
    """A hub id's fingerprint with the commit that was loaded, as its place in the cache tells."""
    if tells_weights(fingerprint):
        return fingerprint
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(source, "config.json")
    return f"{fingerprint}@{Path(found).parent.name}" if isinstance(found, str) else fingerprint


def model_digest(model: nn.Module, tokenizer: Any, eos_token_ids: Collection[int]) -> str:
    """SHA-256 of the weights as they are in memory, and of configuration and tokenizer.

    Wherever a model lies and however its files are cut, the same one gives the same digest, as
    long as transformers reads it the same way.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy())
    untyped: Any = model
    config = {k: v for k, v in untyped.config.to_dict().items() if k not in _NOT_THE_MODEL_S}
    backend = getattr(tokenizer, "backend_tokenizer", None)
    reads = sorted(tokenizer.get_vocab().items()) if backend is None else backend.to_str()
    described = [config, reads, tokenizer.chat_template, sorted(eos_token_ids)]
    digest.update(json.dumps(described, sort_keys=True, default=str).encode())
    return digest.hexdigest()
