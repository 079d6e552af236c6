"""How much memory a piece of work took."""

from __future__ import annotations

import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_CLEAR, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")
_CLEAR_PEAK = "5"
_KIB = 1024


@dataclass(frozen=True)
class PeakMemory:
    """The most that this process held at a time since `forget_peak`.

    Attributes:
        resident: Bytes of main memory; None where the system does not say.
        accelerator: Bytes that torch held on its current GPU; None without one.
    """

    resident: int | None
    accelerator: int | None


def forget_peak() -> None:
    """Let the next peak be that of what follows, where the system can do that."""
    with suppress(OSError):
        _CLEAR.write_text(_CLEAR_PEAK)
    torch = _torch_with_gpu()
    if torch is not None:
        torch.cuda.reset_peak_memory_stats()


def peak_memory() -> PeakMemory:
    """The peak until now."""
    torch = _torch_with_gpu()
    held = None if torch is None else int(torch.cuda.max_memory_allocated())
    return PeakMemory(_resident_peak(), held)


def _resident_peak() -> int | None:
    with suppress(OSError, ValueError):
        for line in _STATUS.read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * _KIB
    return None


def _torch_with_gpu() -> Any:
    """Torch, if somebody has loaded it and uses a GPU; asking must not load it."""
    torch = sys.modules.get("torch")
    return torch if torch is not None and torch.cuda.is_initialized() else None
