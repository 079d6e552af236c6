import re
import subprocess
import sys

import pytest

from taskspec.errors import ModelError
from taskspec.models.catalog import CATALOG, PackageFile, expect_kind, suggest

PACKAGED = [entry for entry in CATALOG.values() if isinstance(entry.source, PackageFile)]


@pytest.mark.parametrize("entry", PACKAGED, ids=lambda entry: entry.name)
def test_packaged_models_are_pinned_to_version_and_bytes(entry):
    assert re.fullmatch(r"[0-9a-f]{64}", entry.source.sha256)
    assert re.fullmatch(r"\d+(\.\d+)+", entry.source.version)


def test_quantized_model_and_its_origin_are_different_weights():
    quantized = CATALOG["smollm2-135m-instruct-q4_1"]
    assert quantized.fingerprint != CATALOG["smollm2-135m-instruct"].fingerprint


def test_misspelled_name_gets_a_suggestion():
    assert "'smollm2-135m-instruct'" in suggest("SmolLM2-135M-Instrukt")
    assert "'all-minilm-l6-v2'" in suggest("sentence-transformers/all-MiniLM-L6-v2")
    assert suggest("something/else-entirely") == ""


def test_only_models_of_the_kind_asked_for_are_suggested():
    assert suggest("smollm2-135m-instruct", "sentence-encoder") == ""
    assert "smollm2" in suggest("smollm2-135m-instruct", "causal-lm")


def test_encoder_is_refused_as_a_language_model():
    with pytest.raises(ModelError, match="sentence-encoder.*smollm2"):
        expect_kind(CATALOG["all-minilm-l6-v2"], "causal-lm")


def test_catalog_answers_without_heavy_imports():
    code = (
        "import sys, taskspec.models.catalog, taskspec.models.fetching;"
        "print({'torch', 'transformers'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
