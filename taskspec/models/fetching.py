"""Catalog models that come in packages: fetched, checked and converted once, then cached."""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path

from taskspec.errors import ModelError
from taskspec.models.catalog import (
    CATALOG,
    CatalogEntry,
    Hub,
    ModelKind,
    PackageFile,
    expect_kind,
)
from taskspec.models.wheel import download_wheel, sha256_of, unpack

ORIGIN = "taskspec-origin.json"
_HUB_FILES = ["*.json", "*.safetensors", "*.jinja", "*.txt", "*.model"]


def cache_root() -> Path:
    """Where models are kept: `$TASKSPEC_CACHE`, else `~/.cache/taskspec`."""
    configured = os.environ.get("TASKSPEC_CACHE")
    return Path(configured).expanduser() if configured else Path.home() / ".cache" / "taskspec"


def cached_folder(entry: CatalogEntry) -> Path | None:
    """The folder of a model that is already on this machine, or None."""
    if isinstance(entry.source, Hub):
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(
            entry.source.id, "config.json", revision=entry.source.revision
        )
        return Path(found).parent if isinstance(found, str) else None
    folder = _package_folder(entry.name, entry.source)
    return folder if (folder / ORIGIN).is_file() else None


def ensure_fetched(name: str, kind: ModelKind = "causal-lm") -> Path:
    """The Hugging Face folder of a catalog model, fetched now when it is not here.

    Args:
        name: A name of the catalog.
        kind: What the model is wanted for.

    Raises:
        ModelError: When it is of another kind or cannot be fetched.
    """
    entry = CATALOG[name]
    expect_kind(entry, kind)
    if isinstance(entry.source, Hub):
        return _fetch_from_hub(name, entry.source)
    return fetch_package_model(entry)


def _fetch_from_hub(name: str, source: Hub) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(
            snapshot_download(source.id, revision=source.revision, allow_patterns=_HUB_FILES)
        )
    except (OSError, HfHubHTTPError, LocalEntryNotFoundError) as error:
        reason = str(error).strip().splitlines()[0]
        packaged = [
            each.name
            for each in CATALOG.values()
            if each.kind == CATALOG[name].kind and isinstance(each.source, PackageFile)
        ]
        raise ModelError(
            f"cannot fetch '{name}' from the hub ({source.id}): {reason}; check the network and "
            f"HF_HUB_OFFLINE, name a local folder, or choose a model that needs no hub: "
            f"{', '.join(packaged)}"
        ) from None


def fetch_package_model(entry: CatalogEntry) -> Path:
    """The Hugging Face folder of a catalog model that comes in a package.

    Weights out of a GGUF file are kept in float32, which holds every dequantized value;
    bfloat16 would round most of them. A run in bfloat16 rounds when it loads, so runs in either
    dtype refer to the same stored weights.

    Args:
        entry: A catalog entry whose source is a package.

    Returns:
        The cached folder, made now when it is not there. It appears whole or not at all, and
        processes that want it at the same time wait for the first.

    Raises:
        ModelError: When it cannot be downloaded, has other bytes than the catalog says, was
            altered since, or the cache cannot be written.
    """
    assert isinstance(entry.source, PackageFile), "hub models are fetched by huggingface_hub"
    done = cached_folder(entry)
    if done is not None:
        _check_unaltered(done)
        return done
    folder = _package_folder(entry.name, entry.source)
    with _writing(folder.parent):
        from filelock import FileLock

        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.parent / f".{folder.name}.lock"):
            # Another process may have finished it while this one waited.
            if cached_folder(entry) is None:
                _make(entry.name, entry.source, folder)
    return folder


def _package_folder(name: str, source: PackageFile) -> Path:
    return cache_root() / "models" / f"{name}-{source.sha256[:12]}"


def _make(name: str, source: PackageFile, folder: Path) -> None:
    """Build the folder beside its place and move it there."""
    work = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(work, ignore_errors=True)
    try:
        download, finished = work / "download", work / "model"
        download.mkdir(parents=True)
        with _shown(f"fetching {name} ({source})", source.size) as on_bytes:
            wheel = download_wheel(source, download, on_bytes)
        unpacked = unpack(wheel, source, work)
        wheel.unlink()
        if source.format == "gguf":
            with _shown(f"converting {name}, once; about half a minute"):
                convert_gguf(unpacked, finished)
        elif unpacked != finished:
            os.replace(unpacked, finished)
        write_origin(finished, source)
        os.replace(finished, folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def convert_gguf(file: Path, folder: Path) -> None:
    """Write a GGUF model as a Hugging Face folder with float32 safetensors."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    from taskspec.models.quiet import quiet_transformers

    # The bar over the tensors is tqdm's own, out of reach of transformers' settings.
    with quiet_transformers(), redirect_stderr(io.StringIO()):
        model = AutoModelForCausalLM.from_pretrained(
            file.parent,
            gguf_file=file.name,
            dtype=torch.float32,
            quantization_config=GgufConfig(dequantize=True),
        )
        tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def write_origin(folder: Path, source: PackageFile) -> None:
    """Record where a folder's model comes from, with the digest of every file."""
    files = {
        path.relative_to(folder).as_posix(): sha256_of(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    origin = {
        "package": str(source),
        "member": source.member,
        "sha256": source.sha256,
        "files": files,
    }
    (folder / ORIGIN).write_text(json.dumps(origin, indent=1) + "\n", encoding="utf-8")


def _check_unaltered(folder: Path) -> None:
    """Make sure that a cached folder still holds what was written there."""
    origin = json.loads((folder / ORIGIN).read_text(encoding="utf-8"))
    for name, expected in origin["files"].items():
        path = folder / name
        if not path.is_file() or sha256_of(path) != expected:
            raise ModelError(
                f"{path} was altered or removed after it was fetched; remove {folder} and it is "
                "fetched again"
            )


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Turn failures to write into the cache into a message with the mend."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ModelError(
            f"cannot write the model into {folder}: {reason}; make room there (1 GB is enough for "
            "the models of the catalog) or set TASKSPEC_CACHE to another folder"
        ) from error


@contextmanager
def _shown(label: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
    """Show work on standard error: a bar on a terminal, one line elsewhere.

    Yields:
        A function to call with the bytes done so far.
    """
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(file=sys.stderr)
    if not console.is_terminal:
        size = f", {total / 1e6:.0f} MB" if total else ""
        console.print(f"{label}{size}", highlight=False, markup=False, soft_wrap=True)
        yield lambda done: None
        return
    columns = [TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()]
    if total:
        columns.insert(2, DownloadColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(label, total=total)
        yield lambda done: bar.update(task, completed=done)
