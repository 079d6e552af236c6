"""The quick start's prompts, as shipped."""

import importlib.util
import json
from collections import Counter
from pathlib import Path

import pytest
import yaml

FOLDER = Path(__file__).parents[2] / "recipes" / "prompts"
TASKS = ("math", "code", "sql", "email", "rewrite")
ROWS = [json.loads(line) for line in (FOLDER / "quickstart.jsonl").read_text("utf-8").splitlines()]


@pytest.fixture(scope="module")
def build():
    spec = importlib.util.spec_from_file_location("quickstart_build", FOLDER / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def rows_of(task, split):
    return [row for row in ROWS if (row["task"], row["split"]) == (task, split)]


def texts_of(task, split):
    return [row["messages"][0]["content"] for row in rows_of(task, split)]


def grams(texts, n=8):
    words = [text.lower().split() for text in texts]
    return [tuple(w[start : start + n]) for w in words for start in range(len(w) - n + 1)]


def test_the_file_is_what_build_generates(build, tmp_path, monkeypatch):
    monkeypatch.setattr(build, "OUTPUT", tmp_path / "again.jsonl")
    build.main()
    assert build.OUTPUT.read_bytes() == (FOLDER / "quickstart.jsonl").read_bytes()


def test_ids_and_prompts_are_unique():
    for values in ([row["id"] for row in ROWS], [row["messages"][0]["content"] for row in ROWS]):
        assert [value for value, times in Counter(values).items() if times > 1] == []


def test_every_row_is_one_user_message_of_a_known_task():
    assert {row["task"] for row in ROWS} == set(TASKS)
    for row in ROWS:
        assert list(row) == ["id", "task", "split", "template", "messages"]
        assert [message["role"] for message in row["messages"]] == ["user"]
        assert "{" not in row["messages"][0]["content"], row["id"]


@pytest.mark.parametrize("task", TASKS)
def test_each_task_has_enough_prompts_and_templates(task):
    assert len(rows_of(task, "train")) >= 200
    assert len(rows_of(task, "validation")) == 24
    assert len(rows_of(task, "test")) >= 30
    assert len({row["template"] for row in rows_of(task, "train")}) >= 30
    assert len({row["template"] for row in rows_of(task, "test")}) >= 8


@pytest.mark.parametrize("task", TASKS)
def test_templates_of_test_are_not_used_elsewhere(task):
    held_out = {row["template"] for row in rows_of(task, "test")}
    used = {row["template"] for split in ("train", "validation") for row in rows_of(task, split)}
    assert not held_out & used
    templates = yaml.safe_load((FOLDER / f"{task}.yaml").read_text("utf-8"))["templates"]
    assert not set(templates["train"]) & set(templates["heldout"])


@pytest.mark.parametrize("task", TASKS)
def test_no_material_stands_in_two_splits(task, build):
    source = yaml.safe_load((FOLDER / f"{task}.yaml").read_text("utf-8"))
    fields = source["fields"]
    # a passage's exchanged words are slots of their own; what must not recur is the passage
    telling = {"math": ["name", "role"], "sql": ["schema"], "rewrite": ["text"]}.get(
        task, fields[2:]
    )
    seen = [
        {(field, slots[field]) for slots in build.read_material(fields, rows) for field in telling}
        for rows in (source["material"][part] for part in ("train", "validation", "heldout"))
    ]
    assert not seen[0] & seen[1] and not seen[0] & seen[2] and not seen[1] & seen[2]


@pytest.mark.parametrize("task", TASKS)
def test_word_8_grams_of_test_hardly_occur_in_train(task):
    seen = set(grams(texts_of(task, "train") + texts_of(task, "validation")))
    asked = grams(texts_of(task, "test"))
    assert sum(gram in seen for gram in asked) < 0.03 * len(asked)


@pytest.mark.parametrize("task", TASKS)
def test_prompts_are_short(task):
    longest = max(len(row["messages"][0]["content"].split()) for row in ROWS if row["task"] == task)
    assert longest <= (90 if task == "rewrite" else 75)
