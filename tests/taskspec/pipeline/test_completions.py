"""One prompt for a server: what it is sent, and how its reply is read."""

from __future__ import annotations

import json
from typing import Any

import pytest

from taskspec.decoding.records import Request
from taskspec.errors import ModelError
from taskspec.interfaces import Sampling
from taskspec.pipeline.completions import Completions
from taskspec.recipe.schema import EndpointConfig

PROMPT = (2, 5, 20, 21, 22)


def completions(server: Any) -> Completions:
    return Completions(server.target, "tiny", EndpointConfig(server.url, retries=0))


def answer(server: Any, request: Request) -> Any:
    asker = completions(server)
    return asker.read(request, asker.ask(request))


def says(server: Any, **choice: Any) -> None:
    """Let the server say this about the prompt, whatever the model would."""
    content = {"choices": [{"index": 0, "finish_reason": "length", "text": "", **choice}]}
    server.spoilt = {PROMPT: json.dumps(content).encode()}


def test_nothing_bends_the_target_s_distribution(server: Any) -> None:
    answer(server, Request("a", PROMPT, 8, Sampling(temperature=1.0), seed=2**40 + 3))
    body = server.asked[0]
    neutral = {
        **{"temperature": 1, "top_p": 1, "top_k": -1, "min_p": 0, "repetition_penalty": 1},
        **{"presence_penalty": 0, "frequency_penalty": 0},
    }
    assert {name: body[name] for name in neutral} == neutral
    assert body["prompt"] == list(PROMPT) and body["seed"] == 3


def test_a_server_that_gives_text_alone_is_read_with_the_target_s_tokenizer(server: Any) -> None:
    for index in range(20):
        request = Request("a", (*PROMPT, 30 + index), 12)
        server.gives_ids = True
        expected = answer(server, request)
        server.gives_ids = False
        # The tokenizer has no words for the padding of the output head.
        shown = tuple(token for token in expected.answer_ids if token not in (94, 95))
        found = answer(server, request)
        assert (found.answer_ids, found.finished) == (shown, expected.finished)


def test_a_server_that_knows_the_openai_api_alone_is_asked_in_its_terms(server: Any) -> None:
    server.strict, server.gives_ids = True, False
    asker = completions(server)
    for index in range(3):
        request = Request("a", (*PROMPT, 30 + index), 8)
        assert asker.read(request, asker.ask(request)).answer_ids
    assert len(server.keys) == 1 + 3, "it refuses once, and is not tried again"


def test_one_refusal_does_not_cost_a_server_s_token_ids(server: Any) -> None:
    asker = completions(server)
    asker.ask(Request("a", PROMPT, 8))
    server.failures = [400]
    with pytest.raises(Exception, match="out of order"):
        asker.ask(Request("b", PROMPT, 8))
    asker.ask(Request("c", PROMPT, 8))
    assert all(body["return_token_ids"] for body in server.asked)


def test_answers_end_where_the_target_ends_them(server: Any) -> None:
    end, request = 1, Request("a", PROMPT, 4)
    says(server, token_ids=[20, end, 21])
    assert (answer(server, request).answer_ids, answer(server, request).finished) == ((20, 1), True)
    says(server, text="w1 w2", finish_reason="stop")
    assert answer(server, request).answer_ids == (8, 9, end)
    says(server, text="w1 w2 w3 w4", finish_reason="stop")
    cut = answer(server, request)
    assert (cut.answer_ids, cut.finished) == ((8, 9, 10, 11), False)
    says(server, text="", finish_reason="stop")
    assert (answer(server, request).answer_ids, answer(server, request).finished) == ((1,), True)


def test_free_text_goes_on_after_an_end_token(server: Any) -> None:
    request = Request("a", PROMPT, 4, Sampling(temperature=1.0), ignore_eos=True)
    says(server, token_ids=[20, 1, 21, 1])
    found = answer(server, request)
    assert (found.answer_ids, found.finished) == ((20, 1, 21, 1), False)
    says(server, text="w1", finish_reason="stop")
    assert (answer(server, request).answer_ids, answer(server, request).finished) == ((8, 1), True)


def test_no_more_is_asked_for_than_the_context_holds(server: Any) -> None:
    prompt = tuple(20 + index % 50 for index in range(250))
    assert len(answer(server, Request("a", prompt, 64)).answer_ids) <= 6
    assert server.asked[0]["max_tokens"] == 256 - 250


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"choices": []}', "no completion"),
        (b'{"choices": [{"index": 0, "finish_reason": "stop"}]}', "no completion"),
        (b'"fine"', "no completion"),
        (b'{"choices": [{"text": "", "finish_reason": "length"}]}', "no tokens"),
        (b'{"choices": [{"text": "", "token_ids": [5, 96]}]}', "another model's"),
    ],
)
def test_replies_without_an_answer_are_refused(server: Any, content: bytes, message: str) -> None:
    server.spoilt = {PROMPT: content}
    with pytest.raises(ModelError, match=message):
        answer(server, Request("a", PROMPT, 8))


def test_a_reply_that_is_no_json_is_a_failure_of_its_prompt_alone(
    server: Any, collect: Any
) -> None:
    server.spoilt = {}
    server.gives_ids = True
    first = collect(*server.settings("name=first"))
    prompt = tuple(server.asked[0]["prompt"])
    server.spoilt = {prompt: b'{"choices": ['}
    folder = collect(*server.settings("name=second"))
    counts = [
        json.loads((each / "answers-accounting.json").read_text()) for each in (first, folder)
    ]
    assert [each["error"] for each in counts] == [0, 1]
