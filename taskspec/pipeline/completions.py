"""One prompt's answer from an OpenAI-compatible server, as the target's token ids."""

from __future__ import annotations

from typing import Any

from taskspec.corpus.answers import StoredAnswer
from taskspec.decoding.records import Request
from taskspec.errors import ModelError
from taskspec.interfaces import Target
from taskspec.models.endpoint import Server
from taskspec.recipe.schema import EndpointConfig


class Completions:
    """Sends prompt token ids, so that no server's chat template comes in between.

    Args:
        target: The model that the server has too.
        name: The model's name there.
        config: The server.
    """

    def __init__(self, target: Target, name: str, config: EndpointConfig) -> None:
        """Make the client; nothing is sent yet.

        Raises:
            PluginError: When the key is not set or `openai` is missing.
        """
        self._target, self._name = target, name
        server = Server(config.url, config.key_variable, config.timeout, config.retries)
        self._client = server.connect("collect")
        self._knows_more: bool | None = None

    def ask(self, request: Request) -> Any:
        """The server's reply; any number of threads may ask.

        A server may refuse what the OpenAI API does not have. It is asked without as long as it
        has answered nothing.
        """
        from openai import BadRequestError, UnprocessableEntityError

        if self._knows_more is not False:
            try:
                reply = self._send(request, _more(request))
                self._knows_more = True
                return reply
            except (BadRequestError, UnprocessableEntityError):
                if self._knows_more:
                    raise
        reply = self._send(request, {})
        if self._knows_more is None:
            self._knows_more = False
        return reply

    def read(self, request: Request, reply: Any) -> StoredAnswer:
        """The answer in a reply. One thread only: tokenizers cannot be shared.

        Raises:
            ModelError: When there is none, or it is not the target's.
        """
        ids = self._ids(reply)
        if max(ids, default=0) >= self._target.vocabulary_size:
            raise ModelError(
                f"the answer has token {max(ids)}, the target only {self._target.vocabulary_size} "
                "tokens: it is another model's"
            )
        ends, stopped = self._target.eos_token_ids, reply.choices[0].finish_reason == "stop"
        if not request.ignore_eos:
            ids = ids[: next((at for at, each in enumerate(ids, 1) if each in ends), len(ids))]
        if stopped and ends and (not ids or ids[-1] not in ends):
            ids.append(self._end())
        ids = ids[: request.max_new_tokens]
        if not ids:
            raise ModelError("the answer has no tokens")
        finished = ids[-1] in ends and (stopped or not request.ignore_eos)
        return StoredAnswer(request.id, request.prompt, tuple(ids), finished)

    def _send(self, request: Request, more: dict[str, Any]) -> Any:
        room = self._target.context_length - len(request.prompt)
        return self._client.completions.create(
            model=self._name,
            prompt=list(request.prompt),
            max_tokens=min(request.max_new_tokens, room),
            temperature=request.sampling.temperature,
            top_p=1,
            presence_penalty=0,
            frequency_penalty=0,
            seed=request.seed % 2**31,  # some servers keep 32 bits
            extra_body=more,
        )

    def _ids(self, reply: Any) -> list[int]:
        """The answer's tokens as the server says them, or as the target would read its text."""
        choices = getattr(reply, "choices", None)
        given = getattr(choices[0], "token_ids", None) if choices else None
        if given:
            return list(given)
        text = getattr(choices[0], "text", None) if choices else None
        if not isinstance(text, str):
            raise ModelError("the reply holds no completion")
        ids: list[int] = self._target.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def _end(self) -> int:
        usual: int | None = self._target.tokenizer.eos_token_id
        ends = self._target.eos_token_ids
        return usual if usual in ends else min(ends)


def _more(request: Request) -> dict[str, Any]:
    """What vLLM and SGLang know besides, for the target's very distribution and token ids.

    Left alone, vLLM takes repetition penalty, top-k and min-p from the model's own
    `generation_config.json`, greedy decoding included.
    """
    return {
        "return_token_ids": True,
        "skip_special_tokens": False,
        "ignore_eos": request.ignore_eos,
        "repetition_penalty": 1.0,
        "top_k": -1,
        "min_p": 0.0,
    }
