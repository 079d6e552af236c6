"""What every plugin kind shares: a name, documented options, construction."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar


@dataclass(frozen=True)
class NoOptions:
    """Options of a plugin that takes none."""


def option(default: Any, help: str) -> Any:
    """Declare one documented option of a plugin's `Options` dataclass.

    Args:
        default: Default value; lists and dictionaries are copied for every instance.
        help: One line shown by `taskspec plugins NAME`.

    Returns:
        A dataclass field carrying the help text in its metadata.
    """
    if isinstance(default, list | dict):
        return field(default_factory=lambda: type(default)(default), metadata={"help": help})
    return field(default=default, metadata={"help": help})


class Plugin:
    """Base of all plugin kinds.

    Attributes:
        name: What a recipe writes after `use:`; lower case with dashes.
        Options: A frozen dataclass; each field is made with `option(default, help)`.
            Range checks belong in its `__post_init__` and raise `ValueError`.
        options: The instance's options.
    """

    name: ClassVar[str]
    Options: ClassVar[type] = NoOptions

    def __init__(self, options: Any = None) -> None:
        self.options: Any = self.Options() if options is None else options
