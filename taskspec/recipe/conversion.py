"""One value of a recipe: conversion to the type its field declares, and range checks."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

NOT_SET = "is required but not set"
_INTERPOLATION = "${"
_KINDS: tuple[tuple[Any, str], ...] = (
    (int, "a whole number"),
    (float, "a number"),
    (str, "text"),
    (bool, "true or false"),
    (float | int | str, "a number or text"),
    (list[int], "a list of whole numbers"),
    (list[float], "a list of numbers"),
    (list[str], "a list of texts"),
    (dict[str, Any], "keys and values"),
)


def convert(hint: Any, value: Any) -> Any:
    """A value as its field's type, by OmegaConf's rules: `"12"` fits a whole number.

    Args:
        hint: The field's resolved annotation.
        value: What the recipe says.

    Raises:
        ValueError: When it does not fit; says what would.
    """
    if value == MISSING:
        raise ValueError(NOT_SET)
    if type(value) is hint or (hint == str | None and isinstance(value, str)):
        return value
    if _has_interpolation(value):
        raise ValueError("${...} is not filled in here; write the value itself")
    for text in value if hint == list[str] and isinstance(value, list) else [value]:
        # 1.10 is read as 1.1, which is another name.
        if hint in (str, str | None, list[str]) and isinstance(text, bool | float):
            raise ValueError(f"expected text, found {show(text)}; put it in quotes")
    try:
        merged = OmegaConf.merge(_holder(hint), {"value": value})
        return OmegaConf.to_object(merged).value  # type: ignore[union-attr]
    except OmegaConfBaseException as error:
        raise ValueError(_mismatch(hint, value, error)) from None


def range_problems(schema: type, arguments: Mapping[str, Any]) -> list[tuple[str | None, str]]:
    """Everything a dataclass's `__post_init__` finds wrong, not just the first.

    Args:
        schema: The dataclass. Its messages begin with the name of the field they are about.
        arguments: Values of the right types; what is wrong is left to its default.

    Returns:
        Pairs of field name and message; the name is None when the message names no field.
    """
    remaining = dict(arguments)
    found: list[tuple[str | None, str]] = []
    while True:
        try:
            schema(**remaining)
            return found
        except (ValueError, TypeError) as error:
            message = str(error)
        name = message.partition(" ")[0].strip("`'\"")
        if name not in remaining:
            known = any(field.name == name for field in dataclasses.fields(schema))
            last = (name if known else None, message)
            return found if last in found else [*found, last]
        found.append((name, message))
        del remaining[name]


def suggest(name: str, known: Iterable[str]) -> str:
    """` Did you mean 'x'?`, or nothing when no known name is close."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean '{close[0]}'?" if close else ""


def show(value: Any) -> str:
    """A value as YAML would write it, shortened."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Mapping):
        return "keys and values"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


@cache
def _holder(hint: Any) -> DictConfig:
    """A config whose one field has this type; made once, as making it is slow."""
    holder: DictConfig = OmegaConf.structured(
        dataclasses.make_dataclass("Holder", [("value", hint, MISSING)])
    )
    return holder


def _mismatch(hint: Any, value: Any, error: Exception) -> str:
    for kind, words in _KINDS:
        if hint == kind:
            return f"expected {words}, found {show(value)}"
        if hint == kind | None:
            return f"expected {words} or null, found {show(value)}"
    return str(error).partition("\n")[0]


def _has_interpolation(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(_has_interpolation(each) for each in value.values())
    if isinstance(value, list):
        return any(_has_interpolation(each) for each in value)
    return isinstance(value, str) and _INTERPOLATION in value
