"""Labels from a language model: chosen or named, local or behind an endpoint."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from taskspec_partitioners.asking import read_label, read_name, shorten
from taskspec_partitioners.llm_label import LlmLabelOptions, LlmLabelPartitioner
from taskspec_partitioners.names import name_tasks

from taskspec.errors import CorpusError, ModelError, PluginError
from taskspec.interfaces import PartitionContext
from taskspec.testing import checks_for
from taskspec.testing.toy_target import toy_target
from taskspec.testing.toy_texts import toy_texts, toy_vectors

CONTEXT = PartitionContext(0)
KINDS = {"payment": "Billing question", "python": "coding tasks", "garlic": "Cooking"}
WORDS = (
    ("invoice", "payment", "refund", "account", "balance", "transfer", "receipt", "billing"),
    ("python", "function", "compile", "variable", "syntax", "debugger", "recursion", "loop"),
)


@dataclass
class Server:
    """A real server that answers as a model would, or fails as servers do.

    Attributes:
        url: Its address.
        failures: HTTP statuses of the next requests, before it answers.
        asked: The bodies of all requests.
        keys: Their authorization headers.
        answer: What it says instead of naming the task.
    """

    url: str = ""
    failures: list[int] = field(default_factory=list)
    asked: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    answer: str | None = None

    def reply(self, question: str) -> str:
        request = question.partition("Request: ")[2].partition("\n\n")[0]
        if self.answer is not None:
            return self.answer
        place = next((i for i, words in enumerate(WORDS) if any(w in request for w in words)), 2)
        return list(KINDS.values())[place]


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            state.asked.append(body)
            state.keys.append(self.headers.get("Authorization"))
            status = state.failures.pop(0) if state.failures else 200
            message = {"role": "assistant", "content": state.reply(body["messages"][-1]["content"])}
            value: dict[str, Any] = {"error": {"message": f"status {status}"}}
            if status == 200:
                value = {
                    "id": "1",
                    "object": "chat.completion",
                    "created": 0,
                    "model": body["model"],
                    "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
                    "usage": {"prompt_tokens": 40, "completion_tokens": 2, "total_tokens": 42},
                }
            text = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *arguments: Any) -> None:
            """Say nothing."""

    made = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{made.server_port}/v1"
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    yield state
    made.shutdown()
    thread.join()
    made.server_close()


def partitioner(server: Server, **options: Any) -> LlmLabelPartitioner:
    return LlmLabelPartitioner(LlmLabelOptions(endpoint=server.url, model="any", **options))


def fit(made: LlmLabelPartitioner) -> Any:
    return made.fit(toy_vectors()[0], toy_texts()[0], CONTEXT)


def agreement(labels: Any) -> float:
    """Share of pairs that are together or apart as they should be."""
    truth = toy_texts()[1]
    return float(((labels[:, None] == labels) == (truth[:, None] == truth)).mean())


def test_tasks_are_named_by_the_model(server: Server) -> None:
    made = partitioner(server)
    assert agreement(fit(made)) == 1.0
    assert sorted(made.task_names) == ["billing question", "coding", "cooking"]
    assert len(server.asked) == 60 and server.asked[0]["temperature"] == 0


def test_given_labels_are_chosen_from(server: Server) -> None:
    made = partitioner(server, labels=list(KINDS.values()))
    assert agreement(fit(made)) == 1.0
    assert sorted(made.task_names) == sorted(KINDS.values())
    assert all("- Cooking" in body["messages"][-1]["content"] for body in server.asked)


def test_prompts_outside_the_sample_follow_their_neighbours(server: Server) -> None:
    assert agreement(fit(partitioner(server, sample=24))) == 1.0
    assert len(server.asked) == 24


@pytest.mark.parametrize("budget", [{"max_requests": 20}, {"max_tokens": 20 * 42}])
def test_asking_stops_when_the_budget_is_spent(server: Server, budget: dict[str, int]) -> None:
    with pytest.warns(UserWarning, match="stopped asking .* after 20 of 60 prompts: max_.* spent"):
        labels = fit(partitioner(server, **budget))
    assert len(server.asked) == 20 and agreement(labels) == 1.0


def test_requests_that_fail_are_repeated(server: Server) -> None:
    server.failures = [500, 429]
    assert agreement(fit(partitioner(server, sample=24))) == 1.0
    assert len(server.asked) == 26


def test_a_refused_request_costs_one_prompt_only(server: Server) -> None:
    server.failures = [400]
    assert agreement(fit(partitioner(server))) == 1.0
    assert len(server.asked) == 60


def test_an_endpoint_that_fails_for_good_is_one_clear_error(server: Server) -> None:
    server.failures = [401] * 5
    with pytest.raises(ModelError, match=r"gave no label: it failed .*check endpoint, model"):
        fit(partitioner(server, retries=0))


def test_nobody_at_the_address_is_one_clear_error(server: Server) -> None:
    options = LlmLabelOptions(endpoint="http://127.0.0.1:9/v1", model="any", retries=0)
    with pytest.raises(ModelError, match="gave no label"):
        fit(LlmLabelPartitioner(options))


def test_the_key_comes_from_the_environment(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SOME_KEY", raising=False)
    with pytest.raises(PluginError, match="SOME_KEY holds no key"):
        fit(partitioner(server, key_variable="SOME_KEY"))
    monkeypatch.setenv("SOME_KEY", "secret")
    fit(partitioner(server, key_variable="SOME_KEY", sample=12))
    assert set(server.keys) == {"Bearer secret"}


def test_names_that_nobody_shares_make_no_task(server: Server) -> None:
    server.answer = " "
    with pytest.raises(ModelError, match="could not be read"):
        fit(partitioner(server))


def test_asking_the_same_model_again_is_not_needed_to_predict(
    server: Server, tmp_path: Path
) -> None:
    made = partitioner(server, sample=30)
    fit(made)
    made.save(tmp_path)
    asked = len(server.asked)
    loaded = LlmLabelPartitioner.load(tmp_path, made.options)
    vectors, texts = toy_vectors(1)[0], toy_texts(1)[0]
    np.testing.assert_array_equal(loaded.predict(vectors, texts), made.predict(vectors, texts))
    assert loaded.task_names == made.task_names and len(server.asked) == asked


def test_with_a_model_that_knows_it_keeps_the_contract(server: Server) -> None:
    made = partitioner(server)
    for check in checks_for(made):
        check(made)


def test_a_local_model_gives_every_prompt_one_of_the_labels() -> None:
    options = LlmLabelOptions(labels=["w1 w2", "w3", "w4 w5 w6"], sample=12)
    results = []
    for _ in range(2):
        made = LlmLabelPartitioner(options)
        labels = made.fit(*toy(), PartitionContext(0, toy_target()))
        results.append(labels)
        assert set(made.task_names) <= set(options.labels)
        assert sorted(set(labels.tolist())) == list(range(len(made.task_names)))
    np.testing.assert_array_equal(*results)


def toy() -> tuple[Any, list[str]]:
    return toy_vectors()[0], [f"w{index % 7} w{index % 3}" for index in range(60)]


def test_without_a_model_to_ask_it_says_so() -> None:
    with pytest.raises(ModelError, match="no target to ask"):
        LlmLabelPartitioner().fit(toy_vectors()[0], toy_texts()[0], CONTEXT)
    with pytest.raises(CorpusError, match="no prompts to label"):
        LlmLabelPartitioner().fit(np.zeros((0, 4), dtype=np.float32), [], CONTEXT)


@pytest.mark.parametrize(
    ("answer", "name"),
    [
        ("Code Generation.", "code generation"),
        ("<think>hm</think>\n\nText summarization task, surely", "text summarization task surely"),
        ("", None),
        ("...", None),
    ],
)
def test_names_are_read_from_answers(answer: str, name: str | None) -> None:
    assert read_name(answer) == name


@pytest.mark.parametrize(
    ("answer", "label"),
    [("Code", 0), ("it is code review!", 1), ("neither", None), ("encode", None)],
)
def test_labels_are_read_from_answers(answer: str, label: int | None) -> None:
    assert read_label(answer, ["code", "code review"]) == label


def test_names_of_one_meaning_are_one_task() -> None:
    names = ["code generation", "generating code", "Code generation tasks", "poem", "poems", None]
    vectors = np.eye(6, dtype=np.float32)
    tasks, labels = name_tasks(names, vectors, min_share=0.1, max_tasks=5)
    assert labels[0] == labels[2] and labels[3] == labels[4] != labels[0] and labels[5] == -1
    assert "poem" in tasks


def test_long_prompts_are_shown_at_both_ends() -> None:
    assert shorten("a" * 50 + "b" * 50, 20) == "a" * 10 + " ... " + "b" * 10
    assert shorten("short", 20) == "short"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": ["one"]}, "at least two different"),
        ({"endpoint": "ftp://x", "model": "m"}, "must begin with http"),
        ({"endpoint": "http://x"}, "name of the model"),
        ({"timeout": 0.0}, "timeout must be positive"),
        ({"sample": 0}, "sample must be at least 1"),
        ({"min_share": 1.0}, "min_share must be"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LlmLabelOptions(**options)


def test_every_task_it_names_has_a_prompt() -> None:
    """Equal texts, differently labelled: numbering tasks anew turns the tie between them."""
    vectors = np.array([[1, 0], [1, 0], [0, 1], [0, 1], [0, 1]], dtype=np.float32)
    made = LlmLabelPartitioner(LlmLabelOptions(neighbours=2))
    labels = made._settle(vectors, np.array([0, 1, 1, 1, 1]), ("a", "b"), vectors)
    assert set(labels) == set(range(len(made.task_names)))
    assert np.array_equal(made.predict(vectors, ()), labels)
