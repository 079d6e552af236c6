"""The prompt formats that are read, and what each mistake is answered with."""

import json
from pathlib import Path

import pytest

from taskspec.corpus.examples import Example, Message
from taskspec.corpus.readers import read_examples
from taskspec.errors import CorpusError

HELLO = (Message("user", "hello"),)


@pytest.fixture
def read(tmp_path, monkeypatch):
    """Writes a prompt file and reads it; the file's path in messages is `p.jsonl`."""
    monkeypatch.chdir(tmp_path)

    def read(*lines):
        file = Path("p.jsonl")
        texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
        file.write_text("\n".join(texts), encoding="utf-8")
        return read_examples(file)

    return read


def chat(*turns):
    return {"messages": [{"role": role, "content": content} for role, content in turns]}


def sharegpt(*turns):
    return {"conversations": [{"from": role, "value": content} for role, content in turns]}


class TestFormats:
    @pytest.mark.parametrize(
        "row",
        [
            chat(("user", "hello")),
            sharegpt(("human", "hello")),
            sharegpt(("user", "hello")),
            {"prompt": "hello"},
            {"question_id": 81, "category": "writing", "turns": ["hello", "and again"]},
        ],
        ids=["chat", "sharegpt", "sharegpt-user", "prompt", "spec-bench"],
    )
    def test_all_end_with_what_the_user_says(self, read, row):
        assert read(row)[0].messages == HELLO

    def test_spec_bench_rows_keep_their_number_and_category(self, read):
        example = read({"question_id": 81, "category": "writing", "turns": ["hello"]})[0]
        assert (example.id, example.task) == ("81", "writing")

    def test_later_turns_of_spec_bench_wait_for_answers(self, read):
        example = read({"question_id": 81, "category": "writing", "turns": ["hello", "and again"]})
        assert example[0].later == ("and again",)
        assert read({"prompt": "hello"})[0].later == ()

    def test_labels_of_a_row_are_kept(self, read):
        row = {"id": "a", "task": "code", "split": "test", "prompt": "hello"}
        assert read(row) == [Example("a", HELLO, "test", "code")]

    @pytest.mark.parametrize("extra", [{}, {"id": None, "task": None, "split": None}, {"id": ""}])
    def test_rows_without_labels_are_named_by_what_they_say(self, read, extra):
        examples = read({"prompt": "hello", **extra}, {"prompt": "again"})
        assert len({each.id for each in examples}) == 2
        assert (examples[0].split, examples[0].task) == (None, None)
        moved = read({"prompt": "new"}, {"prompt": "again"}, {"prompt": "hello", **extra})
        assert [each.id for each in reversed(moved[1:])] == [each.id for each in examples]

    def test_rows_that_say_the_same_are_told_apart_by_a_number(self, read):
        names = [each.id for each in read({"prompt": "a"}, {"prompt": "b"}, {"prompt": "a"})]
        assert names[2] == f"{names[0]}-2" and names[1] != names[0]

    def test_who_says_it_and_what_is_said_later_are_part_of_it(self, read):
        rows = [
            chat(("user", "a\nb")),
            chat(("user", "a"), ("user", "b")),
            chat(("system", "s"), ("user", "a\nb")),
            {"turns": ["a\nb", "c"]},
        ]
        names = [each.id for each in read(*rows)]
        assert len({name.rpartition("-")[2] for name in names}) == 4

    @pytest.mark.parametrize("make", [chat, sharegpt])
    def test_a_conversation_is_cut_after_its_last_user_turn(self, read, make):
        turns = [("system", "s"), ("user", "a"), ("assistant", "b"), ("user", "c")]
        row = make(*turns, ("assistant", "d"), ("assistant", "e"))
        assert [each.content for each in read(row)[0].messages] == ["s", "a", "b", "c"]

    def test_the_text_of_a_prompt_leaves_the_system_message_out(self, read):
        example = read(chat(("system", "s"), ("user", "a"), ("assistant", "b"), ("user", "c")))[0]
        assert example.prompt_text == "a\nb\nc"

    def test_an_array_is_read_like_lines(self, read):
        rows = [{"prompt": "hello"}, {"prompt": "again"}]
        assert read(json.dumps(rows, indent=2)) == read(*rows)

    def test_blank_lines_and_windows_line_ends_do_not_matter(self, read):
        assert len(read('{"prompt": "a"}\r', "", '{"prompt": "b"}\r', "")) == 2

    def test_the_byte_order_mark_of_editors_is_ignored(self, read):
        assert read('\ufeff{"prompt": "hello"}')[0].messages == HELLO

    def test_line_separators_inside_texts_do_not_end_a_line(self, read):
        assert read('{"prompt": "a\u2028b\x85c"}')[0].prompt_text == "a\u2028b\x85c"


WRONG = {
    "broken JSON": ('{"prompt": ', "p.jsonl:2: not valid JSON: Expecting value (column 12)"),
    "no object": ("[1]", "p.jsonl:2: expected a JSON object"),
    "no known key": ({"text": "a"}, "p.jsonl:2: expected `messages`, `conversations`, `turns` or"),
    "no user": (chat(("assistant", "a")), "p.jsonl:2: no user message"),
    "no messages": ({"messages": []}, "p.jsonl:2: no user message"),
    "empty user message": (chat(("user", " ")), "p.jsonl:2: the last user message is empty"),
    "empty last user message": (
        chat(("user", "a"), ("user", "")),
        "p.jsonl:2: the last user message is empty",
    ),
    "unknown role": (
        chat(("usr", "a")),
        "p.jsonl:2: unknown role 'usr'; use system, user, assistant",
    ),
    "messages no list": ({"messages": "a"}, "p.jsonl:2: `messages` must be a list"),
    "message no object": (
        {"messages": ["a"]},
        "p.jsonl:2: each of `messages` needs `role` and a text in `content`",
    ),
    "content no text": (
        {"conversations": [{"from": "human", "value": None}]},
        "p.jsonl:2: each of `conversations` needs `from` and a text in `value`",
    ),
    "turns no texts": ({"turns": [1]}, "p.jsonl:2: `turns` must be a list of texts"),
    "later turn no text": ({"turns": ["a", 1]}, "p.jsonl:2: `turns` must be a list of texts"),
    "later turn empty": ({"turns": ["a", "b", " "]}, "p.jsonl:2: turn 3 is empty"),
    "no turns": ({"turns": []}, "p.jsonl:2: `turns` must be a list of texts"),
    "prompt no text": ({"prompt": 3}, "p.jsonl:2: `prompt` must be a text"),
    "unknown split": (
        {"prompt": "a", "split": "val"},
        "p.jsonl:2: split 'val' is none of train, validation, test",
    ),
    "split no text": ({"prompt": "a", "split": ["test"]}, "p.jsonl:2: split ['test'] is none of"),
    "id no name": ({"prompt": "a", "id": [1]}, "p.jsonl:2: `id` must be a text or a whole number"),
    "half a surrogate pair": ({"prompt": "\ud800"}, "p.jsonl:2: half of a surrogate pair"),
    "id taken": (
        {"prompt": "a", "id": "first"},
        "p.jsonl:2: id 'first' is taken by p.jsonl:1; ids must differ",
    ),
}


class TestMistakes:
    @pytest.mark.parametrize(("row", "message"), WRONG.values(), ids=WRONG)
    def test_each_has_one_message_with_its_line(self, read, row, message):
        with pytest.raises(CorpusError) as caught:
            read({"prompt": "hello", "id": "first"}, row)
        assert str(caught.value).startswith(message)
        assert "\n" not in str(caught.value)

    def test_all_are_reported_at_once_and_ten_are_shown(self, read):
        with pytest.raises(CorpusError) as caught:
            read({"prompt": "hello"}, *[{"prompt": number} for number in range(13)])
        lines = str(caught.value).splitlines()
        assert [line.split(": ")[0] for line in lines[:-1]] == [
            f"p.jsonl:{number}" for number in range(2, 12)
        ]
        assert lines[-1] == "... and 3 more"

    def test_rows_of_an_array_are_counted(self, read):
        with pytest.raises(CorpusError, match="^p.jsonl row 2: `prompt` must be a text"):
            read(json.dumps([{"prompt": "a"}, {"prompt": 1}], indent=2))

    def test_a_broken_array_is_reported_with_its_line(self, read):
        with pytest.raises(CorpusError, match="^p.jsonl:3: not valid JSON"):
            read("[", '{"prompt": "a"}', '{"prompt": "b"}', "]")

    @pytest.mark.parametrize("content", ["", "\n \n", "[]"])
    def test_a_file_without_prompts_is_refused_with_an_example(self, read, content):
        with pytest.raises(CorpusError, match='p.jsonl holds no prompts; write .*"messages"'):
            read(content)

    def test_a_missing_file_is_named(self, tmp_path):
        with pytest.raises(CorpusError, match="none.jsonl does not exist"):
            read_examples(tmp_path / "none.jsonl")

    def test_a_folder_is_refused(self, tmp_path):
        with pytest.raises(CorpusError, match="cannot be read"):
            read_examples(tmp_path)

    def test_other_encodings_are_reported_with_their_line(self, tmp_path):
        file = tmp_path / "latin.jsonl"
        file.write_bytes(b'{"prompt": "a"}\n{"prompt": "caf\xe9"}\n')
        with pytest.raises(CorpusError, match=r"latin.jsonl:2: not UTF-8 text; save"):
            read_examples(file)


def test_no_task_may_take_the_name_of_the_row_over_all(tmp_path):
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"prompt": "hello", "task": "all"}\n')
    with pytest.raises(CorpusError, match="task 'all' names the row over all tasks"):
        read_examples(path)
