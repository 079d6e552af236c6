"""How a recipe names a plugin."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING


@dataclass(frozen=True)
class PluginChoice:
    """A plugin by name, with its options.

    Attributes:
        use: The plugin's name, as listed by `taskspec plugins`.
        options: Options of that plugin, as listed by `taskspec plugins NAME`.
    """

    use: str = MISSING
    options: dict[str, Any] = field(default_factory=dict)
