"""Labels from a model behind an OpenAI-compatible endpoint, within a budget."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from taskspec.errors import ModelError
from taskspec.models.endpoint import Server, first_line
from taskspec_partitioners.asking import (
    Turns,
    choosing_turns,
    naming_turns,
    read_label,
    read_name,
    shorten,
)

_CHARACTERS_PER_TOKEN = 4  # a guess, for servers that do not report their usage

Label = TypeVar("Label")


@dataclass(frozen=True)
class Endpoint:
    """Where to ask, and how much.

    Attributes:
        server: The server.
        model: The model's name there.
        max_requests: Requests after which no more is asked.
        max_tokens: Tokens, read and written, after which no more is asked.
        answer_tokens: Longest answer asked for.
        characters: Longest part of a text that is sent.
    """

    server: Server
    model: str
    max_requests: int
    max_tokens: int
    answer_tokens: int
    characters: int


class EndpointLabeller:
    """Asks for one prompt after the other until the budget is spent."""

    def __init__(self, endpoint: Endpoint) -> None:
        """Make the client; nothing is sent yet.

        Raises:
            PluginError: When the `openai` package is missing or the key is not set.
        """
        self._endpoint = endpoint
        self._client = endpoint.server.connect("partitioner 'llm-label'")
        self._requests = 0
        self._tokens = 0

    def choose(self, texts: Sequence[str], labels: Sequence[str]) -> list[int | None]:
        """The label that the model writes for each text."""
        return self._ask_all(
            [choosing_turns(shorten(each, self._endpoint.characters), labels) for each in texts],
            lambda answer: read_label(answer, labels),
        )

    def name(self, texts: Sequence[str]) -> list[str | None]:
        """The name that the model writes for each text."""
        return self._ask_all(
            [naming_turns(shorten(each, self._endpoint.characters)) for each in texts], read_name
        )

    def _ask_all(
        self, questions: Sequence[Turns], read: Callable[[str], Label | None]
    ) -> list[Label | None]:
        """Answers in order; None after the budget is spent or the endpoint has failed.

        Raises:
            ModelError: When there is not one usable answer.
        """
        from openai import BadRequestError, OpenAIError

        found: list[Label | None] = [None] * len(questions)
        reason = "its answers could not be read"
        asked = 0
        for asked, turns in enumerate(questions):
            if self._requests >= self._endpoint.max_requests:
                reason = f"max_requests ({self._endpoint.max_requests}) is spent"
                break
            if self._tokens >= self._endpoint.max_tokens:
                reason = f"max_tokens ({self._endpoint.max_tokens}) is spent"
                break
            self._requests += 1
            try:
                found[asked] = read(self._ask(turns))
            except BadRequestError as error:
                reason = f"it refused a request ({first_line(error)})"  # the next may be fine
            except OpenAIError as error:
                reason = f"it failed ({first_line(error)})"
                break
        else:
            asked = len(questions)
        url = self._endpoint.server.url
        if all(each is None for each in found):
            raise ModelError(
                f"llm-label: the endpoint {url} gave no label: {reason}; check "
                "endpoint, model, key_variable and the budget in partition.options"
            )
        if asked < len(questions):
            warnings.warn(
                f"llm-label stopped asking {url} after {asked} of {len(questions)} "
                f"prompts: {reason}; the others are labelled by their neighbours",
                stacklevel=2,
            )
        return found

    def _ask(self, turns: Turns) -> str:
        messages: Any = turns
        reply = self._client.chat.completions.create(
            model=self._endpoint.model,
            messages=messages,
            temperature=0,
            max_tokens=self._endpoint.answer_tokens,
        )
        answer = (reply.choices[0].message.content or "") if reply.choices else ""
        if reply.usage is not None:
            self._tokens += reply.usage.total_tokens
        else:
            written = sum(len(turn["content"]) for turn in turns) + len(answer)
            self._tokens += -(-written // _CHARACTERS_PER_TOKEN)
        return answer
