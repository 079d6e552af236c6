"""Many prompts for a server: answered, accounted for, and never asked for twice."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from taskspec.decoding.records import Request
from taskspec.errors import ModelError, PluginError, RecipeError
from taskspec.pipeline.answering import load_answers
from taskspec.pipeline.asking import ask_all
from taskspec.pipeline.collect import load_examples
from taskspec.recipe.schema import EndpointConfig

Run = Callable[..., Path]
ONE_BY_ONE = "collect.endpoint.concurrency=1"


def accounting(folder: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((folder / "answers-accounting.json").read_text())
    assert value["input"] == value["success"] + value["error"] + value["skipped"]
    return value


@pytest.fixture
def whole(collect: Run) -> dict[str, Any]:
    """What the target answers here."""
    return load_answers(collect("name=here", "collect.signal=none"))


def test_a_server_s_answers_are_the_target_s_own(
    server: Any, collect: Run, whole: dict[str, Any]
) -> None:
    folder = collect(*server.settings())
    assert load_answers(folder) == whole
    assert {body["model"] for body in server.asked} == {"tiny-model"}
    assert accounting(folder)["success"] == len(server.asked) == 38
    assert (
        "answered 38 of 38 prompts, 0 failed, 0 not asked" in (folder / "summary.txt").read_text()
    )


def test_free_text_comes_from_the_server_too(server: Any, collect: Run) -> None:
    settings = ("collect.signal=none", "collect.free_text_tokens=300")
    expected = load_answers(collect("name=here", *settings), "free")
    folder = collect(*server.settings(*settings))
    assert load_answers(folder, "free") == expected
    free = [body for body in server.asked if body["temperature"] == 1]
    assert [body["ignore_eos"] for body in free] == [True, True]
    assert json.loads((folder / "free-accounting.json").read_text())["success"] == 2


def test_failures_are_tried_again(server: Any, collect: Run) -> None:
    server.failures = [500, 429, 503]
    folder = collect(*server.settings("collect.endpoint.retries=3"))
    assert accounting(folder)["success"] == 38
    assert len(server.keys) == 38 + 3


def test_prompts_without_an_answer_are_left_out_and_counted(
    server: Any, collect: Run, whole: dict[str, Any]
) -> None:
    lost = sorted(whole)[0]
    server.broken = {whole[lost].prompt_ids}
    folder = collect(*server.settings())
    found = accounting(folder)
    assert (found["success"], found["error"], found["skipped"]) == (37, 1, 0)
    assert found["without_answer"] == [lost] and "out of order" in found["reason"]
    assert set(load_answers(folder)) == set(whole) - {lost}
    known = {example.id for example in load_examples(folder) if example.split != "test"}
    assert known == set(whole) - {lost}
    assert "answered 37 of 38 prompts, 1 failed" in (folder / "summary.txt").read_text()


def test_an_answer_that_takes_too_long_is_given_up(
    server: Any, collect: Run, whole: dict[str, Any]
) -> None:
    lost = sorted(whole)[0]
    server.hanging = {whole[lost].prompt_ids}
    hurry = ("timeout=4", "retries=0", "concurrency=2")
    folder = collect(*server.settings(*(f"collect.endpoint.{each}" for each in hurry)))
    assert accounting(folder)["without_answer"] == [lost]
    assert "timed out" in accounting(folder)["reason"]


def test_too_many_failures_end_the_run_and_nothing_is_lost(
    server: Any, collect: Run, whole: dict[str, Any]
) -> None:
    prompts = [answer.prompt_ids for answer in whole.values()]
    server.broken = set(prompts[20:])
    with pytest.raises(ModelError, match=r"4 failed, 14 not asked\): .*out of order"):
        collect(*server.settings(ONE_BY_ONE))
    server.broken = set()
    assert load_answers(collect(*server.settings("collect.batch_size=8"))) == whole
    asked = [tuple(body["prompt"]) for body in server.asked]
    assert sorted(asked) == sorted(prompts), "an answer is asked for once, by another recipe, too"


def test_as_many_may_fail_as_the_recipe_allows(
    server: Any, collect: Run, whole: dict[str, Any]
) -> None:
    server.broken = {whole[name].prompt_ids for name in sorted(whole)[:5]}
    settings = server.settings(ONE_BY_ONE)
    with pytest.raises(ModelError, match="4 failed"):
        collect(*settings)
    assert accounting(collect(*settings, "collect.endpoint.max_failed=0.2"))["error"] == 5


def test_what_may_fail_is_a_share_of_all_prompts_those_known_included(
    server: Any, collect: Run, whole: dict[str, Any]
) -> None:
    server.broken = {whole[name].prompt_ids for name in sorted(whole)[:5]}
    lenient = (ONE_BY_ONE, "collect.endpoint.max_failed=0.2")
    collect(*server.settings(*lenient))
    folder = collect(*server.settings(*lenient, "collect.batch_size=8"))
    found = json.loads((folder / "answers-after-33-accounting.json").read_text())
    assert (found["input"], found["error"]) == (5, 5)
    assert set(load_answers(folder)) == set(sorted(whole)[5:])


def test_a_server_that_is_gone_is_not_asked_every_prompt(server: Any, collect: Run) -> None:
    server.failures = [404] * 100
    lenient = "collect.endpoint.max_failed=0.5"
    with pytest.raises(ModelError, match=r"\(9 failed, 29 not asked\)"):
        collect(*server.settings(ONE_BY_ONE, lenient))


def test_interrupted_anywhere_only_what_is_missing_is_asked(server: Any, tmp_path: Path) -> None:
    requests = [Request(f"p{index}", (2, 5, 10 + index), 6) for index in range(12)]
    config = EndpointConfig(server.url, concurrency=1)
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        if done == 5:
            raise KeyboardInterrupt

    journal = tmp_path / "answers.jsonl"
    with pytest.raises(KeyboardInterrupt):
        ask_all(server.target, "tiny", config, requests, journal, advance, 0)
    assert len(server.asked) == 5
    journal.write_bytes(journal.read_bytes()[:-9])
    done = 0
    answers, accounting = ask_all(
        server.target, "tiny", config, requests, journal, lambda _: None, 0
    )
    assert [answer.id for answer in answers] == [request.id for request in requests]
    assert (accounting.input, accounting.success) == (12, 12)
    asked = [tuple(body["prompt"]) for body in server.asked]
    assert len(asked) == 12 + 1 and asked[4] == asked[5], "only the torn one is asked again"


def test_the_key_comes_from_its_variable(
    server: Any, collect: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TINY_KEY", raising=False)
    wanted = server.settings("collect.endpoint.key_variable=TINY_KEY")
    with pytest.raises(PluginError, match=r"collect: .*TINY_KEY holds no key; set it"):
        collect(*wanted)
    monkeypatch.setenv("TINY_KEY", "secret")
    collect(*wanted)
    assert set(server.keys) == {"Bearer secret"}


def test_states_cannot_come_from_a_server(server: Any, collect: Run) -> None:
    with pytest.raises(RecipeError, match="signal must be none with an endpoint"):
        collect(f"collect.endpoint.url={server.url}")
    assert not server.keys


def test_where_the_same_model_is_served_does_not_matter(server: Any, collect: Run) -> None:
    folder = collect(*server.settings())
    before = (folder / "done.json").read_text()
    elsewhere = (*server.settings(), "collect.endpoint.url=http://127.0.0.1:9/v1", ONE_BY_ONE)
    assert (collect(*elsewhere) / "done.json").read_text() == before


def test_where_too_few_prompts_are_answered_the_others_are_asked_again(
    server: Any, collect: Run, whole: dict[str, Any]
) -> None:
    examples = load_examples(collect("name=here", "collect.signal=none"))
    validation = [each.id for each in examples if each.split == "validation"]
    server.broken = {whole[name].prompt_ids for name in validation}
    lenient = server.settings(ONE_BY_ONE, "collect.endpoint.max_failed=0.5")
    for _ in range(2):
        with pytest.raises(ModelError, match="training and 0 validation prompts, too few to go on"):
            collect(*lenient)
    asked = len(server.asked)
    server.broken = set()
    assert load_answers(collect(*lenient)) == whole
    assert len(server.asked) - asked == len(validation)
