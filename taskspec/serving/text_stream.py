"""An answer's text while its tokens come."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any


class TextStream:
    """Decodes growing token ids; holds back text that may still change."""

    def __init__(self, tokenizer: Any, on_text: Callable[[str], None] | None) -> None:
        self.tokenizer, self.on_text = tokenizer, on_text
        self.ids: list[int] = []
        self.shown = 0

    def push(self, new: Sequence[int]) -> None:
        """Take in tokens; show what is certain."""
        self.ids.extend(new)
        text = self._text()
        # An incomplete UTF-8 sequence decodes to the replacement character until it is whole.
        if not text.endswith("\ufffd"):
            self._show(text)

    def finish(self) -> str:
        """Show the rest; the whole text."""
        text = self._text()
        self._show(text)
        return text

    def _text(self) -> str:
        text: str = self.tokenizer.decode(self.ids, skip_special_tokens=True)
        return text

    def _show(self, text: str) -> None:
        if self.on_text is not None and len(text) > self.shown:
            self.on_text(text[self.shown :])
            self.shown = len(text)
