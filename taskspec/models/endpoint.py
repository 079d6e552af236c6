"""Clients of OpenAI-compatible servers."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from taskspec.errors import PluginError


@dataclass(frozen=True)
class Server:
    """Where to ask.

    Attributes:
        url: Base address, such as `http://localhost:8000/v1`.
        key_variable: Environment variable that holds the key; empty for servers without one.
        timeout: Seconds until a request is given up.
        retries: Times that a failed request is repeated, with growing pauses.
    """

    url: str
    key_variable: str
    timeout: float
    retries: int

    def connect(self, asker: str) -> Any:
        """The `openai` client; nothing is sent yet.

        Args:
            asker: Who asks, for messages.

        Raises:
            PluginError: When the `openai` package is missing or the key is not set.
        """
        try:
            import openai
        except ImportError:
            raise PluginError(
                f"{asker} with an endpoint needs openai; "
                "run: pip install 'taskspec-decoding[endpoint]'"
            ) from None
        return openai.OpenAI(
            base_url=self.url,
            api_key=self._key(asker),
            timeout=self.timeout,
            max_retries=self.retries,
        )

    def _key(self, asker: str) -> str:
        if not self.key_variable:
            return "none"  # the client insists on one
        key = os.environ.get(self.key_variable)
        if not key:
            raise PluginError(
                f"{asker}: the environment variable {self.key_variable} holds no key; set it, or "
                "leave key_variable empty for an endpoint without keys"
            )
        return key


def first_line(error: Exception) -> str:
    """What a server's error says, in one line."""
    return str(error).strip().partition("\n")[0] or type(error).__name__
