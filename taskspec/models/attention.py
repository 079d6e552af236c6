"""What a model's configuration says about its attention."""

from __future__ import annotations

from typing import Any


def sliding_window(config: Any) -> int | None:
    """The attention window of a decoder, in tokens; None when every layer sees everything.

    Args:
        config: The decoder's transformers configuration.
    """
    layer_types = getattr(config, "layer_types", None)
    if layer_types is not None and "sliding_attention" not in layer_types:
        return None
    if layer_types is None and getattr(config, "use_sliding_window", True) is False:
        return None
    window: int | None = getattr(config, "sliding_window", None)
    return window
