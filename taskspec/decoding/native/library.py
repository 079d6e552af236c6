"""The kernels, compiled for this processor once and kept in the cache folder."""

from __future__ import annotations

import ctypes
import hashlib
import os
import subprocess
import tempfile
import warnings
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path

import torch
from torch import Tensor

from taskspec.models.fetching import cache_root

SWITCH = "TASKSPEC_NATIVE"
"""Environment variable: `0` decodes without the kernels."""
_COMPILER = "TASKSPEC_CXX"
_FLAGS = ("-O3", "-march=native", "-fopenmp", "-shared", "-fPIC", "-std=c++20", "-Wno-psabi")
_MAIN = "kernels.cpp"


@cache
def kernels() -> ctypes.CDLL | None:
    """The loaded kernels; None where the processor, the compiler or `TASKSPEC_NATIVE=0` forbids.

    They are compiled with `$TASKSPEC_CXX`, else `g++`, in about a second, the first time. Without
    them PyTorch's own layers serve, and a warning says so once.
    """
    supported = torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")
    if os.environ.get(SWITCH) == "0" or not supported:
        return None
    places = sorted(files(__package__).iterdir(), key=lambda place: place.name)
    sources = {p.name: p.read_bytes() for p in places if p.name.endswith((".cpp", ".h"))}
    compiler = os.environ.get(_COMPILER, "g++")
    try:
        version = subprocess.run([compiler, "--version"], capture_output=True, check=True).stdout
        # Native code of one processor may not run on another that shares the cache.
        parts = (*sources.values(), version, " ".join(_FLAGS).encode(), _processor())
        digest = hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]
        path = cache_root() / "native" / f"kernels-{digest}.so"
        if not path.exists():
            _compile(compiler, sources, path)
        library = ctypes.CDLL(str(path))
        library.instructions.restype = ctypes.c_char_p
        return library
    except (OSError, subprocess.CalledProcessError) as error:
        warnings.warn(
            f"decoding takes several times as long here: '{compiler}' could not compile its "
            f"kernels ({error}); install g++, or name another compiler in {_COMPILER}",
            stacklevel=2,
        )
        return None


def instructions() -> str | None:
    """What the kernels are made of, such as `AVX2`; None without kernels."""
    library = kernels()
    return None if library is None else str(library.instructions().decode())


def address(tensor: Tensor | None) -> int | None:
    """Where a contiguous tensor's data begins; null for None."""
    assert tensor is None or tensor.is_contiguous()
    return None if tensor is None else tensor.data_ptr()


def _compile(compiler: str, sources: Mapping[str, bytes], path: Path) -> None:
    """Compile beside the final place and move there, so that two processes do not disturb."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        made = Path(folder) / path.name
        for name, source in sources.items():
            (Path(folder) / name).write_bytes(source)
        command = [compiler, *_FLAGS, str(Path(folder) / _MAIN), "-o", str(made)]
        subprocess.run(command, capture_output=True, check=True)
        made.replace(path)


def _processor() -> bytes:
    """What tells processors apart for `-march=native`."""
    try:
        lines = Path("/proc/cpuinfo").read_bytes().splitlines()
    except OSError:
        return b""
    return next((line for line in lines if line.startswith(b"flags")), b"")
