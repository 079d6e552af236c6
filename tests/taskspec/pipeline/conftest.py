"""A server that speaks the OpenAI API, in front of the tiny model."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from taskspec.decoding.engine import Engine
from taskspec.decoding.records import Request
from taskspec.interfaces import Sampling
from taskspec.models.loading import LanguageModel, load_language_model
from taskspec.pipeline.collect import Collect
from taskspec.pipeline.runner import run_stages
from taskspec.pipeline.verifiers import plain_verifier
from taskspec.recipe.loading import load_recipe
from taskspec.registry import default_registry

STANDARD = {
    *("model", "prompt", "max_tokens", "temperature", "top_p"),
    *("presence_penalty", "frequency_penalty", "seed"),
}


@dataclass
class Server:
    """A real server in front of the tiny model.

    Attributes:
        target: The model.
        url: Its address.
        failures: HTTP statuses of the next requests, before it answers.
        broken: Prompts that it never answers.
        hanging: Prompts whose answer comes only when the test is over.
        spoilt: What it says instead of the answer to a prompt.
        asked: Bodies of the requests that it answered.
        keys: Authorization headers of all requests.
        gives_ids: Whether it says token ids, as vLLM does, or text alone.
        strict: Whether it refuses fields that the OpenAI API does not have.
    """

    target: LanguageModel
    url: str = ""
    failures: list[int] = field(default_factory=list)
    broken: set[tuple[int, ...]] = field(default_factory=set)
    hanging: set[tuple[int, ...]] = field(default_factory=set)
    spoilt: dict[tuple[int, ...], bytes] = field(default_factory=dict)
    asked: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    gives_ids: bool = True
    strict: bool = False
    over: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def settings(self, *more: str) -> list[str]:
        """Overrides of a recipe that is to ask here."""
        own = {"url": self.url, "model": "tiny-model", "retries": 1}
        through = [f"collect.endpoint.{name}={value}" for name, value in own.items()]
        return ["collect.signal=none", *through, *more]

    def respond(self, body: dict[str, Any]) -> tuple[int, bytes]:
        """The HTTP status and content for a request."""
        prompt = tuple(body["prompt"])
        status = self.failures.pop(0) if self.failures else 200
        if prompt in self.broken or (self.strict and not body.keys() <= STANDARD):
            status = 400
        if status != 200:
            return status, json.dumps({"error": {"message": "out of order"}}).encode()
        if prompt in self.hanging:
            self.over.wait()
        return status, self.spoilt.get(prompt) or json.dumps(self._reply(body)).encode()

    def _reply(self, body: dict[str, Any]) -> dict[str, Any]:
        sampling = Sampling(temperature=body["temperature"])
        request = Request(
            "",
            tuple(body["prompt"]),
            body["max_tokens"],
            sampling,
            seed=body["seed"],
            ignore_eos=body.get("ignore_eos", False),
        )
        verifier = plain_verifier(default_registry(), sampling.greedy)
        with self.lock:
            made = Engine(self.target, verifier).generate([request])[0]
        self.asked.append(body)
        ended = made.finish == "eos"
        text = self.target.tokenizer.decode(
            made.tokens[:-1] if ended else made.tokens,
            skip_special_tokens=body.get("skip_special_tokens", True),
        )
        ids = {"token_ids": list(made.tokens)} if self.gives_ids else {}
        return {
            "id": "1",
            "object": "text_completion",
            "created": 0,
            "model": body["model"],
            "choices": [
                {"index": 0, "finish_reason": "stop" if ended else "length", "text": text, **ids}
            ],
        }


@pytest.fixture
def server(tiny_llama_folder: Path) -> Iterator[Server]:
    """The server, at work."""
    state = Server(load_language_model(str(tiny_llama_folder), device="cpu"))

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            state.keys.append(self.headers.get("Authorization"))
            status, content = state.respond(body)
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments: Any) -> None:
            """Say nothing."""

    made = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.daemon_threads = True
    state.url = f"http://127.0.0.1:{made.server_port}/v1"
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    yield state
    state.over.set()
    made.shutdown()
    thread.join()
    made.server_close()


@pytest.fixture
def collect(write_recipe: Callable[..., Path]) -> Callable[..., Path]:
    """A function that runs the first stage and gives its folder."""
    recipe = write_recipe()

    def run(*overrides: str) -> Path:
        registry = default_registry()
        settings = [f"runs={recipe.parent / 'runs'}", "collect.free_text_tokens=0", *overrides]
        loaded = load_recipe(str(recipe), settings, registry)
        context = run_stages([Collect()], loaded, registry, Console(file=io.StringIO()))
        return context.stage_folders["collect"]

    return run
