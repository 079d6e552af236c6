"""Other engines on the same weights, prompts and token counts as ours, each in its own process.

None of them is a dependency: one that is not installed is left out and named.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from types import TracebackType
from typing import Any, Self

from taskspec.errors import TaskSpecError
from taskspec.evaluation import bench_worker

MODULES = {
    "transformers": "transformers",
    "llama.cpp": "xllamacpp",
    "openvino": "openvino_genai",
    "vllm": "vllm",
    "flashspec": "flashspec",
}
"""The engines, by the module that has each."""


@dataclass(frozen=True)
class EnginePlan:
    """One way another engine answers.

    Attributes:
        engine: Its name in `MODULES`.
        settings: What `bench_worker` is told.
        python: The interpreter that has it, or a script that runs one.
    """

    engine: str
    settings: Mapping[str, Any]
    python: str = sys.executable

    @property
    def installed(self) -> bool:
        """Whether this interpreter has it; another one is asked when it starts."""
        return self.python != sys.executable or find_spec(MODULES[self.engine]) is not None


class EngineEndedError(TaskSpecError):
    """Another engine's process ended while it was asked."""


@dataclass
class OtherEngine:
    """An engine at work; a context manager that ends it.

    Attributes:
        version: Its distribution's version, once it runs.
    """

    plan: EnginePlan
    version: str = ""
    _process: subprocess.Popen[str] | None = field(default=None, repr=False)
    _noise: Any = field(default=None, repr=False)

    def __enter__(self) -> Self:
        """Start it.

        Raises:
            TaskSpecError: When it cannot run, with what it said.
        """
        # What it prints is kept for the message of a failure only.
        self._noise = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115
        given = [self.plan.engine, json.dumps(dict(self.plan.settings))]
        try:
            self._process = subprocess.Popen(
                [self.plan.python, bench_worker.__file__, *given],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._noise,
                text=True,
                encoding="utf-8",
                # Its folder's modules would otherwise stand before the standard library's.
                env={**os.environ, "PYTHONSAFEPATH": "1"},
            )
        except OSError as error:
            raise TaskSpecError(
                f"{self.plan.engine}: cannot run {self.plan.python}: {error}"
            ) from None
        said = self._hear()
        if "error" in said:
            self.close()
            raise TaskSpecError(f"{self.plan.engine} cannot answer here: {said['error']}")
        self.version = said["version"]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End it."""
        self.close()

    def close(self) -> None:
        """End the process, which ends by itself when nobody asks any more."""
        if self._process is not None:
            assert self._process.stdin is not None and self._process.stdout is not None
            with suppress(OSError):
                self._process.stdin.close()
            try:
                self._process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process.stdout.close()
            self._process = None
        self._noise.close()

    def answer(self, prompt: Sequence[int], tokens: int) -> float:
        """Seconds that it takes to answer a prompt with so many tokens.

        Raises:
            EngineEndedError: When it ends without an answer.
        """
        assert self._process is not None and self._process.stdin is not None
        wish = {"prompt": list(prompt), "tokens": tokens}
        # One that has ended takes no wish; what it said tells why.
        with suppress(OSError):
            self._process.stdin.write(json.dumps(wish) + "\n")
            self._process.stdin.flush()
        said = self._hear()
        seconds: float = said["seconds"] * tokens / max(1, said["wrote"])
        return seconds

    def _hear(self) -> dict[str, Any]:
        assert self._process is not None and self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._noise.seek(0)
            last = self._noise.read().strip().splitlines()[-1:] or ["it said nothing"]
            self.close()
            raise EngineEndedError(f"{self.plan.engine} ended without an answer: {last[0]}")
        said: dict[str, Any] = json.loads(line)
        return said


_PATIENCE = 20.0
"""Seconds that an engine has to end by itself."""
