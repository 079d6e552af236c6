"""YAML as recipes use it: plain values that read back as they were written."""

from __future__ import annotations

import re
from typing import Any

import yaml

_DATE = "tag:yaml.org,2002:timestamp"
_INTEGER = "tag:yaml.org,2002:int"
_WHOLE = re.compile(r"-?(?:0|[1-9][0-9]*)$")
_NEXT_LINE = "\x85"


class _Loader(yaml.SafeLoader):
    """Without dates, and with whole numbers as they are written out alone.

    So a run may be named 2026-01-01, 010 or 1_000. Where a number is wanted, 1_000 is one.
    """


class _Dumper(yaml.SafeDumper):
    """Writes out repeated values, and escapes the one character PyYAML would lose."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    # PyYAML writes U+0085 as a line break and reads it back as a newline.
    style = '"' if _NEXT_LINE in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Loader.yaml_implicit_resolvers = {
    first: [
        (tag, _WHOLE if tag == _INTEGER else pattern) for tag, pattern in resolvers if tag != _DATE
    ]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Dumper.add_representer(str, _represent_text)


def read_yaml(text: str) -> Any:
    """Parse a YAML text.

    Raises:
        yaml.YAMLError: When it is no YAML.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except ValueError as error:
        raise yaml.YAMLError(str(error)) from None


def write_yaml(values: Any) -> str:
    """YAML of plain values, keys in their order."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
