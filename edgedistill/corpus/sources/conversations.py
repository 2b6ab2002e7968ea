"""Conversations as JSON Lines: a prompt and its answer, {"prompt": "...", "answer": "..."}, or a list of messages.

With `answer: null` they are prompts: each ends with the user, and the teacher is to answer.

A row's text is the conversation as JSON. Duplicates are found in what user and assistant say: what the system says is
often the same in every row, and as long as all else.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from edgedistill.corpus.sources._file import check_utf8, digest_of, existing
from edgedistill.errors import DataError
from edgedistill.section import SourceOptions

if TYPE_CHECKING:
    import pyarrow as pa

ROLES = ("system", "user", "assistant")


class Options(SourceOptions):
    """A local .jsonl file of conversations."""

    source: Literal["conversations"]
    file: str = Field(examples=["../data/chats.jsonl"], description="Path, relative to the recipe's file.")
    prompt: str = Field("prompt", description="Key of what the user says, in rows without messages.")
    answer: str | None = Field(
        "answer",
        description="Key of what the assistant is to say, in rows without messages; null: every row, of messages too, "
        "is a prompt that ends with the user. The teacher answers those of data.unlabelled.",
    )
    system: str | None = Field(None, description="What the system says first in every conversation; null: nothing.")

    CONVERSATIONS: ClassVar[bool] = True

    @property
    def unanswered(self) -> bool:
        """Whether its conversations are prompts: they end with the user, and a teacher is to answer."""
        return self.answer is None


def read(options: Options, base: Path, cache: Path) -> "pa.Table":
    """Return the conversations, with columns text and label; every label is None.

    Raises:
        DataError: the file is missing, empty, not UTF-8 or not JSON Lines, or a line holds no conversation that ends
            with the assistant, or where answers are not there, with the user.
    """
    import pyarrow as pa

    path = existing(base, options.file)
    check_utf8(path)
    texts = []
    with path.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                texts.append(as_text(_messages(line, options, f"{path}:{number}")))
    if not texts:
        raise DataError(f"data file {path} holds only blank lines; write one conversation per line")
    return pa.table({"text": pa.array(texts, pa.string()), "label": pa.nulls(len(texts), pa.string())})


def digest(options: Options, base: Path) -> str:
    """Return the SHA-256 of the file."""
    return digest_of(base, options.file)


def as_text(messages: list[dict[str, str]]) -> str:
    """Return a conversation as the corpus keeps it; `json.loads` reads it back."""
    return json.dumps(messages, ensure_ascii=False)


def what_is_said(text: str) -> str:
    """Return what user and assistant say in a conversation that is kept as text, a line each."""
    return "\n".join(message["content"] for message in json.loads(text) if message["role"] != "system")


def prompts_in(text: str) -> Iterator[str]:
    """Yield what a conversation that is kept as text says before each of its answers, kept alike."""
    messages = json.loads(text)
    for turn, message in enumerate(messages):
        if message["role"] == "assistant" and any(one["role"] == "user" for one in messages[:turn]):
            yield as_text(messages[:turn])


def _messages(line: str, options: Options, place: str) -> list[dict[str, str]]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise DataError(f"{place} is not JSON ({error}); write one object per line") from None
    if not isinstance(row, dict):
        raise DataError(f"{place} holds {line.strip()[:40]!r}; write one object per line")
    said = _pair(row, options, place) if row.get("messages") is None else _said(row, place)
    messages = [_message(one, place) for one in said]
    if options.system:
        if any(message["role"] == "system" for message in messages):
            raise DataError(
                f"{place}: the system speaks in it already, and system: {options.system[:40]!r} would speak twice; "
                "leave system out of the recipe, or that message out of the line"
            )
        messages.insert(0, {"role": "system", "content": options.system})
    _check_ending(messages, options, place)
    return messages


def _said(row: dict[str, Any], place: str) -> list[Any]:
    messages = row["messages"]
    if not isinstance(messages, list) or not messages:
        raise DataError(f"{place}: messages are a list of one or more, and this is {messages!r:.60}; mend or remove it")
    return messages


def _check_ending(messages: list[dict[str, str]], options: Options, place: str) -> None:
    if options.unanswered and messages[-1]["role"] != "user":
        raise DataError(
            f"{place}: without answers (answer: null) a conversation ends with the user; mend or remove the line"
        )
    if options.unanswered:
        return
    if messages[-1]["role"] != "assistant" or not any(one["role"] == "user" for one in messages):
        raise DataError(
            f"{place}: a conversation has a user in it and ends with the assistant; mend or remove the line, or give "
            "prompts that the teacher is to answer as data.unlabelled, with answer: null"
        )


def _pair(row: dict[str, Any], options: Options, place: str) -> list[dict[str, Any]]:
    named = [("prompt", "user", options.prompt)]
    named += [] if options.answer is None else [("answer", "assistant", options.answer)]
    for key, _, name in named:
        if name not in row:
            keys = ", ".join(row) or "none"
            raise DataError(f"{place} has no {name!r}; its keys: {keys}; name the right one as {key!r}")
    return [{"role": role, "content": row[name]} for _, role, name in named]


def _message(said: Any, place: str) -> dict[str, str]:
    role, content = (said.get("role"), said.get("content")) if isinstance(said, dict) else (None, None)
    if role not in ROLES or not isinstance(content, str) or not content.strip():
        raise DataError(
            f"{place}: a message has a role ({', '.join(ROLES)}) and a content that is not empty; this is {said!r:.60}"
        )
    return {"role": role, "content": content}
