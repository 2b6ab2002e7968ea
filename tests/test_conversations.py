"""Conversations as a source: pairs and messages become one text each, and a broken line is told with its place."""

import json
from pathlib import Path
from typing import Any

import pytest

from edgedistill import registry
from edgedistill.errors import DataError

SOURCE = registry.load("edgedistill.corpus.sources", "conversations")
PAIR = {"prompt": "Who?", "answer": "Größe 🎬"}
TALK = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "name": "x"}]}


def read(folder: Path, *rows: Any, **options: Any) -> list[list[dict[str, str]]]:
    file = folder / "chats.jsonl"
    file.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows), "utf-8")
    table = SOURCE.read(SOURCE.Options(source="conversations", file="chats.jsonl", **options), folder, folder)
    assert table["label"].null_count == len(table)
    return [json.loads(text) for text in table["text"].to_pylist()]


def test_a_pair_and_a_list_of_messages_are_read_alike(tmp_path: Path) -> None:
    pair, talk = read(tmp_path, PAIR, "", TALK)
    assert pair == [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Größe 🎬"}]
    assert talk == [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]


def test_keys_and_what_the_system_says_are_the_recipes(tmp_path: Path) -> None:
    (talk,) = read(tmp_path, {"q": "1", "a": "2"}, prompt="q", answer="a", system="Be short.")
    assert [one["content"] for one in talk] == ["Be short.", "1", "2"]


def test_without_answers_every_row_is_a_prompt(tmp_path: Path) -> None:
    ends = {"messages": [*TALK["messages"], {"role": "user", "content": "c"}]}
    pair, talk = read(tmp_path, PAIR, ends, answer=None, system="Be short.")
    assert pair == [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Who?"}]
    assert [one["content"] for one in talk] == ["Be short.", "a", "b", "c"]
    with pytest.raises(DataError, match=r"chats\.jsonl:2: without answers \(answer: null\) a conversation ends with"):
        read(tmp_path, PAIR, TALK, answer=None)
    with pytest.raises(DataError, match=r"chats\.jsonl:1 has no 'prompt'"):
        read(tmp_path, {"text": "a"}, answer=None)


def test_the_prompts_of_a_conversation_are_what_is_said_before_each_answer() -> None:
    said = [
        ("system", "s"),
        ("assistant", "first"),
        ("user", "a"),
        ("assistant", "b"),
        ("user", "c"),
        ("assistant", "d"),
    ]
    whole = [{"role": role, "content": content} for role, content in said]
    assert [json.loads(one) for one in SOURCE.prompts_in(json.dumps(whole))] == [whole[:3], whole[:5]]
    assert list(SOURCE.prompts_in(json.dumps(whole[:3]))) == []


BROKEN = (
    ("{", "chats.jsonl:2 is not JSON"),
    ([1], "write one object per line"),
    ({"prompt": "x"}, "has no 'answer'; its keys: prompt"),
    ({"prompt": "x", "answer": " "}, "a content that is not empty"),
    ({"messages": [{"role": "user", "content": "x"}]}, "ends with the assistant"),
    ({"messages": [{"role": "user", "content": "x"}]}, "as data.unlabelled, with answer: null"),
    ({"messages": [{"role": "assistant", "content": "x"}]}, "has a user in it"),
    ({"messages": [{"role": "tool", "content": "x"}]}, "a role (system, user, assistant)"),
    ({"messages": ["hello"]}, "a role (system, user, assistant)"),
    ({"messages": "hello"}, "messages are a list of one or more, and this is 'hello'"),
    ({"messages": 5}, "messages are a list of one or more, and this is 5"),
    ({"messages": []}, "messages are a list of one or more, and this is []"),
)


@pytest.mark.parametrize(("row", "said"), BROKEN)
def test_a_broken_line_is_told_with_its_place(row: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"chats\.jsonl:2") as caught:
        read(tmp_path, PAIR, row)
    assert said in str(caught.value)


def test_the_system_speaks_once(tmp_path: Path) -> None:
    own = {"messages": [{"role": "system", "content": "Own words."}, *TALK["messages"]]}
    assert read(tmp_path, own)[0][0] == {"role": "system", "content": "Own words."}
    with pytest.raises(DataError, match=r"chats\.jsonl:2: the system speaks in it already, and system: 'Be short\.'"):
        read(tmp_path, PAIR, own, system="Be short.")


def test_a_file_of_blank_lines_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="only blank lines"):
        read(tmp_path, " ")
