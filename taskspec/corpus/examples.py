"""Prompts as conversations."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

SPLITS = ("train", "validation", "test")
ALL_TASKS = "all"
"""Names the row over all tasks in tables, so no task may be called so."""


@dataclass(frozen=True)
class Message:
    """One turn.

    Attributes:
        role: `system`, `user` or `assistant`.
        content: What was said.
    """

    role: str
    content: str


@dataclass(frozen=True)
class Example:
    """One prompt: a conversation that ends with the user's turn.

    Attributes:
        id: Unique name.
        messages: The turns.
        split: `train`, `validation` or `test`; None until splits are drawn.
        task: Known task label, for evaluation only; None when unknown.
        later: What the user says next, after answers yet to be given (Spec-Bench's later turns).
    """

    id: str
    messages: tuple[Message, ...]
    split: str | None = None
    task: str | None = None
    later: tuple[str, ...] = ()

    @property
    def prompt_text(self) -> str:
        """The turns' texts, system messages left out, joined by newlines."""
        return "\n".join(each.content for each in self.messages if each.role != "system")

    @property
    def key(self) -> str:
        """A short hash of what the prompt says; white space and system message do not count."""
        text = " ".join(self.prompt_text.split())
        return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()

    @property
    def digest(self) -> str:
        """Sixteen hexadecimal digits that follow from what is said, whatever it is called."""
        said = [[asdict(each) for each in self.messages], list(self.later)]
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]
