"""The kernels are compiled once, and do without what a machine lacks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from taskspec.decoding.native.library import kernels

SHOW = "from taskspec.decoding.native.library import kernels; print(kernels() is not None)"


def loaded(cache: Path, monkeypatch: pytest.MonkeyPatch, **environment: str) -> tuple[bool, str]:
    """Whether another process gets the kernels, and what it says."""
    monkeypatch.setenv("TASKSPEC_CACHE", str(cache))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    done = subprocess.run([sys.executable, "-c", SHOW], capture_output=True, text=True, check=True)
    return done.stdout.strip() == "True", done.stderr


@pytest.mark.skipif(kernels() is None, reason="the kernels cannot be compiled for this processor")
def test_a_second_start_compiles_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert loaded(tmp_path, monkeypatch) == (True, "")
    (made,) = (tmp_path / "native").iterdir()
    # A compiler that only tells its version: compiling again would fail.
    version = subprocess.run(["g++", "--version"], capture_output=True, text=True, check=True)
    fake = tmp_path / "g++"
    fake.write_text(f"#!/bin/sh\n[ $1 = --version ] && cat <<'END'\n{version.stdout}END\n")
    fake.chmod(0o755)
    assert loaded(tmp_path, monkeypatch, TASKSPEC_CXX=str(fake)) == (True, "")
    assert list((tmp_path / "native").iterdir()) == [made]


@pytest.mark.skipif(kernels() is None, reason="the kernels cannot be compiled for this processor")
@pytest.mark.parametrize("compiler", ["/nowhere/g++", "false"])
def test_without_a_compiler_it_says_what_to_install(
    compiler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, said = loaded(tmp_path, monkeypatch, TASKSPEC_CXX=compiler)
    assert not found
    assert "install g++" in said and "TASKSPEC_CXX" in said


def test_they_can_be_switched_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert loaded(tmp_path, monkeypatch, TASKSPEC_NATIVE="0") == (False, "")
