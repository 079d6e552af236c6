"""Where a recipe's models are, when they lie in folders."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from taskspec.recipe.choice import PluginChoice
from taskspec.recipe.schema import Recipe

_MODEL = "model"
# Of transformers, and of sentence-transformers where the former's lies in a folder within.
_FILES = ("config.json", "modules.json")


def is_model_folder(name: str) -> bool:
    """Whether a model's name is that of a folder that holds one."""
    return bool(name) and any((Path(name) / file).is_file() for file in _FILES)


def with_absolute_models(recipe: Recipe) -> Recipe:
    """The recipe with absolute paths to the models that lie in folders, wherever it names one.

    Those are the target, and what plugins' option `model` names; a path has a slash in it.
    """
    target = dataclasses.replace(recipe.target, model=_absolute(recipe.target.model))
    found: Recipe = _with_choices(dataclasses.replace(recipe, target=target))
    return found


def _with_choices(value: Any) -> Any:
    """A part of a recipe; plugin choices may lie anywhere in it."""
    if isinstance(value, dict):
        return {name: _with_choices(each) for name, each in value.items()}
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return value
    fields = {
        each.name: _with_choices(getattr(value, each.name)) for each in dataclasses.fields(value)
    }
    if isinstance(value, PluginChoice) and isinstance(value.options.get(_MODEL), str):
        fields["options"] = {**value.options, _MODEL: _absolute(value.options[_MODEL])}
    return type(value)(**fields)


def _absolute(name: str) -> str:
    # A bare name may be the catalog's, which comes first.
    return str(Path(name).resolve()) if "/" in name and is_model_folder(name) else name
