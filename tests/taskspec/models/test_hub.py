"""Asking the hub once, against a server on this machine."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import huggingface_hub
import pytest

from taskspec.models.hub import HubAnswer, ask_hub


class Hub(BaseHTTPRequestHandler):
    """Knows `acme/here`; is broken for `acme/broken`."""

    asked: list[str] = []

    def do_GET(self) -> None:
        Hub.asked.append(self.path)
        name = self.path.rpartition("/")[2]
        self.send_response({"here": 200, "broken": 503}.get(name, 404))
        if name not in ("here", "broken"):
            self.send_header("X-Error-Code", "RepoNotFound")
        self.end_headers()
        self.wfile.write(json.dumps({"id": f"acme/{name}"}).encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The paths asked for at a hub that is there."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(huggingface_hub.hf_api.api, "endpoint", endpoint)
    Hub.asked = []
    yield Hub.asked
    server.shutdown()
    server.server_close()


def cached(monkeypatch: pytest.MonkeyPatch, place: str | None) -> None:
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: place)


def test_what_the_hub_has_is_present(hub: list[str]) -> None:
    assert ask_hub("acme/here") is HubAnswer.PRESENT


def test_what_the_hub_has_not_is_absent(hub: list[str]) -> None:
    assert ask_hub("acme/nowhere") is HubAnswer.ABSENT


def test_what_is_no_hub_id_is_absent_without_asking(hub: list[str]) -> None:
    assert ask_hub("/some/folder") is HubAnswer.ABSENT
    assert hub == []


@pytest.mark.parametrize(
    ("place", "answer"), [("/c/config.json", HubAnswer.CACHED), (None, HubAnswer.UNREACHABLE)]
)
def test_a_broken_hub_is_asked_once_and_the_cache_counts(
    hub: list[str], monkeypatch: pytest.MonkeyPatch, place: str | None, answer: HubAnswer
) -> None:
    cached(monkeypatch, place)
    assert ask_hub("acme/broken") is answer
    assert len(hub) == 1


def test_no_server_at_all_is_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    cached(monkeypatch, None)
    monkeypatch.setattr(huggingface_hub.hf_api.api, "endpoint", "http://127.0.0.1:9")
    assert ask_hub("acme/here") is HubAnswer.UNREACHABLE
