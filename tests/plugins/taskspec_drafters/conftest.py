"""The targets that drafts are made for."""

from __future__ import annotations

from pathlib import Path

import pytest

from taskspec.models.loading import LanguageModel, load_language_model


@pytest.fixture
def target(tiny_folder: Path) -> LanguageModel:
    return load_language_model(str(tiny_folder), device="cpu")


@pytest.fixture
def llama(tiny_llama_folder: Path) -> LanguageModel:
    return load_language_model(str(tiny_llama_folder), device="cpu")
